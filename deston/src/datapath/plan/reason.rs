//! Why the kernel, or the faster hook, does not carry a listener; for a user to read.

use std::net::IpAddr;

use super::system::OLDEST;
use crate::datapath::host::HostError;
use crate::datapath::kernel::AttachError;

/// Why the kernel cannot carry a listener, or should not.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Too old a kernel.
    #[error("Linux {0} is too old: the kernel datapath needs {major}.{minor}", major = OLDEST.0, minor = OLDEST.1)]
    OldKernel(String),
    /// Not allowed to load programs.
    #[error("it needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    NotPrivileged,
    /// `datapath = "userspace"`.
    #[error("userspace is what the configuration asks for")]
    NotAsked,
    /// Requests are not balanced in the kernel.
    #[error("only layer 4 is carried by the kernel")]
    NotLayer4,
    /// The listener takes clients from elsewhere, the server is reached by loopback.
    #[error("server {0} is a loopback address, and the listener is not")]
    LoopbackServer(IpAddr),
    /// The listener takes clients of the host alone, the server is elsewhere.
    #[error("the listener is on a loopback address, and server {0} is not")]
    RemoteServer(IpAddr),
    /// The server is the host itself.
    #[error("server {0} is on this host")]
    LocalServer(IpAddr),
    /// No route to the server.
    #[error("there is no route to server {0}")]
    NoRoute(IpAddr),
    /// The addresses are not of one family.
    #[error("server {server} and the listener's address {listener} are not of one family")]
    OtherFamily {
        /// Address of the listener.
        listener: IpAddr,
        /// Address of the server.
        server: IpAddr,
    },
    /// A router stands between.
    #[error("server {0} is behind a router, and dsr-l2 reaches servers on the same link alone")]
    NotOnLink(IpAddr),
    /// No interface holds the listener's address and none is configured.
    #[error("no interface has the address {0}; set `interfaces`")]
    AddressNotHere(IpAddr),
    /// Every port would be taken from the host's own services.
    #[error(
        "`port = 0` takes every port, and {0} is an address of this host, which other services are \
         reached by: give the listener an address that is routed here and that no interface has"
    )]
    NotDedicated(IpAddr),
    /// No client comes in by loopback.
    #[error(
        "the loopback interface has the address {0}; set `interfaces` to those that clients come in \
         by"
    )]
    AddressOnLoopback(IpAddr),
    /// The listener is on every address, and no interface leads anywhere.
    #[error("the listener is on every address, and there is no default route; set `interfaces`")]
    NoDefaultRoute,
    /// No such interface.
    #[error("there is no interface `{0}`")]
    NoInterface(String),
    /// The way to the server leads through more VLAN devices than frames can have tags.
    #[error("the way to {0} leads through more than two VLAN devices")]
    TooManyTags(IpAddr),
    /// The guard of a listener on a loopback address would see the host alone.
    #[error("the listener is on a loopback address: it is guarded in userspace")]
    GuardOfLoopback,
    /// XDP on veth would switch off segmentation offload for everybody.
    #[error("{0} is a veth, where XDP would lose segmentation offload")]
    Veth(String),
    /// Packets of the loopback interface never meet XDP.
    #[error("{0} is a loopback interface, which has TC and no XDP")]
    LoopbackInterface(String),
    /// The driver has no native XDP.
    #[error("{0} has no native XDP")]
    NotNative(String),
    /// An interface without Ethernet addresses.
    #[error("{0} is not an Ethernet interface")]
    NotEthernet(String),
    /// It was tried.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The host could not be asked.
    #[error(transparent)]
    Host(#[from] HostError),
}
