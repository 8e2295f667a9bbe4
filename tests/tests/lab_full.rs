//! As many flows as the kernel can hold, and one more.

use std::time::Duration;

use deston_common::outcome::Outcome;
use deston_tests::kernel::Setting;
use deston_tests::lab::visit::{NO_HEALTH, PORT, config_for, echo, greeted, visit_within};
use deston_tests::lab::{Deston, Lab, TcpServer, listener_of, server_of};
use deston_tests::require_lab;

/// The fewest that a configuration may ask for.
const FLOWS: usize = 1_024;

#[test]
fn a_flow_beyond_those_that_fit_is_refused_and_said() {
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        let lab = Lab::new(1);
        let at = (server_of(setting.family, 1), 3_000).into();
        let server = TcpServer::start_at(lab.server(1), 1, at);
        let pool = format!("{NO_HEALTH}\n[kernel]\nflows = {FLOWS}");
        let many = format!("max_connections = {}", 2 * FLOWS);
        let text = config_for(setting, "", &pool, &[(server.address(), &many)]);
        let mut deston = Deston::serving(&lab.balancer, &text);
        let to = listener_of(setting.family, PORT);
        let mut held =
            lab.client.within(move || (0..FLOWS).map(|_| greeted(to)).collect::<Vec<_>>());
        assert_eq!(deston.counted(Outcome::FlowsFull), 0, "{setting}");

        let limit = Duration::from_millis(600);
        assert_eq!(lab.client.within(move || visit_within(to, limit)), None, "{setting}");
        held.iter_mut().for_each(echo);
        let line = deston.wait_for_log("flows_full=");
        assert!(line.contains("raise `[kernel] flows`"), "{line}");
        let told = deston.command(&["counters", "--instance", lab.balancer.name()]).stdout;
        let told = String::from_utf8(told).unwrap();
        let mut rows = told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.get(1) == Some(&"flows_full")).expect(&told);
        let count: u64 = row[0].parse().unwrap();
        assert!(count > 0, "{told}");
    }
}
