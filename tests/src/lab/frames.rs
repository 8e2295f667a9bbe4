//! Sending frames as they are, past a host's own stack.

use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};

/// A socket that sends whole frames by an interface (packet(7)).
pub fn packet_socket(interface: &str) -> Socket {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
    let index = nix::net::if_::if_nametoindex(interface).unwrap();
    let family = libc::AF_PACKET as libc::sa_family_t;
    // SAFETY: the storage is longer than a sockaddr_ll and may hold any address; its length is set.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = family;
            (*address).sll_ifindex = index as i32;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }
    .unwrap();
    socket.bind(&address).unwrap();
    socket
}
