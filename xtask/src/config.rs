//! The configurations that demonstration and measurement give to Deston.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A listener with a pool of the same name.
pub(crate) struct Listener<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: SocketAddr,
    pub(crate) layer: &'a str,
    /// Layer 4 only.
    pub(crate) datapath: Option<&'a str>,
    pub(crate) algorithm: &'a str,
    pub(crate) servers: Vec<Server<'a>>,
}

/// A server of that pool.
pub(crate) struct Server<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u16,
    pub(crate) max_connections: u32,
}

/// The configuration as it would be written by hand.
pub(crate) fn text(listeners: &[Listener<'_>]) -> String {
    let mut text = String::new();
    for Listener { name, address, layer, datapath, algorithm, servers } in listeners {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[[listener]]\nname = \"{name}\"\naddress = \"{}\"\nport = {}\nlayer = \"{layer}\"\n\
             pool = \"{name}\"\n",
            address.ip(),
            address.port()
        );
        if let Some(datapath) = datapath {
            let _ = writeln!(text, "datapath = \"{datapath}\"");
        }
        let _ = write!(text, "\n[[pool]]\nname = \"{name}\"\nalgorithm = \"{algorithm}\"\n\n");
        for server in servers {
            let _ = write!(
                text,
                "[[server]]\npool = \"{name}\"\nname = \"{}\"\naddress = \"{}\"\nport = {}\n\
                 weight = {}\nmax_connections = {}\n\n",
                server.name,
                server.address.ip(),
                server.address.port(),
                server.weight,
                server.max_connections
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_with_one_vocabulary() {
        let address = ([127, 0, 0, 1], 80).into();
        let text = text(&[Listener {
            name: "web",
            address,
            layer: "L4",
            datapath: Some("xdp"),
            algorithm: "round_robin",
            servers: vec![Server { name: "alpha", address, weight: 3, max_connections: 9 }],
        }]);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["listener"][0]["pool"], table["pool"][0]["name"]);
        assert_eq!(table["server"][0]["weight"].as_integer(), Some(3));
        assert_eq!(table["server"][0]["max_connections"].as_integer(), Some(9));
    }
}
