//! Routes: their pools, and reloads that change them.

use super::*;
use crate::live::Serving;

const WEB: &str = "[[listener]]\nname = \"web\"\nlayer = \"L7\"\npool = \"main\"\n";
const POOLS: &str = "[[pool]]\nname = \"main\"\n[[pool]]\nname = \"other\"\n\
                     [[server]]\nport = 1\npool = \"main\"\n[[server]]\nport = 2\npool = \"other\"\n";

fn text(routes: &str) -> String {
    format!("{WEB}{routes}{POOLS}")
}

fn serving(lab: &Lab) -> Arc<Serving> {
    lab.reconciler.listener("web").unwrap().serving()
}

/// The names of the pools that the routes send their next requests to.
fn next(lab: &Lab) -> Vec<String> {
    let serving = serving(lab);
    let pool = |route: &live::Route| route.next_pool().unwrap().name().to_owned();
    serving.routes.iter().map(pool).collect()
}

#[test]
fn a_listener_gets_its_routes_with_the_live_pools() {
    let lab = start(&text(
        "[[route]]\npath = \"/a\"\npool = \"other\"\n[[route]]\nsplit = { main = 1, other = 1 }\n",
    ));
    assert_eq!([next(&lab), next(&lab)], [["other", "main"], ["other", "other"]]);
    assert!(Arc::ptr_eq(serving(&lab).routes[0].next_pool().unwrap(), &lab.pool("other")));
}

#[test]
fn a_reload_that_changes_routes_keeps_pools_and_does_not_bind_anew() {
    let route = "[[route]]\npath = \"/a\"\npool = \"other\"\n";
    let mut lab = start(&text(""));
    assert_eq!(next(&lab), [""; 0]);
    let (listener, pool) = (serving(&lab).listener.name.clone(), lab.pool("other"));
    assert_eq!(lab.reload(&text(route)), [""; 0], "nothing is bound, opened or closed");
    assert_eq!((listener.as_str(), next(&lab)), ("web", vec!["other".to_owned()]));
    assert!(Arc::ptr_eq(serving(&lab).routes[0].next_pool().unwrap(), &pool));
    lab.reload(&text(&route.replace("/a", "/b")));
    let path = serving(&lab).routes[0].model.conditions.to_string();
    assert_eq!(path, "path /b");
    assert!(Arc::ptr_eq(serving(&lab).routes[0].next_pool().unwrap(), &pool));
    lab.reload(&text(""));
    assert_eq!(next(&lab), [""; 0]);
}

#[test]
fn a_reload_that_changes_a_routes_pool_is_seen_through_the_route() {
    let text = text("[[route]]\npool = \"other\"\n");
    let mut lab = start(&text);
    let before = serving(&lab);
    lab.reload(&text.replace("port = 2", "port = 3"));
    let pool = before.routes[0].next_pool().unwrap().view();
    assert_eq!(pool.servers[0].address().port(), 3, "also through what was published before");
}

#[test]
fn a_pool_that_comes_with_its_route_goes_with_it() {
    let mut lab = start(&text(""));
    let new = "[[pool]]\nname = \"new\"\n[[server]]\nport = 9\npool = \"new\"\n";
    let routed = text("[[route]]\npool = \"new\"\n") + new;
    lab.reload(&routed);
    assert_eq!(next(&lab), ["new"]);
    lab.reload(&text(""));
    assert!(!lab.reconciler.pools.contains_key("new"));
}

#[test]
fn a_pool_that_only_routes_use_is_probed() {
    let second = "[[server]]\nport = 3\npool = \"other\"\n";
    let lab = start(&(text("[[route]]\npool = \"other\"\n") + second));
    let mut probed: Vec<u16> =
        lab.reconciler.probed().map(|(key, ..)| key.address.port()).collect();
    probed.sort_unstable();
    assert_eq!(probed, [2, 3]);
}
