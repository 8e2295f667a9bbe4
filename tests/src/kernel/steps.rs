//! Sending packets, and what has to become of them.

use deston::datapath::{Action, Hook, Ran};
use deston_common::outcome::Outcome;

use super::{Connection, Lab, Verdict};
use crate::packet::{Packet, Tag, flags, oracle};

/// What can be sent: a packet, or bytes that need not make one.
pub trait Frame {
    /// The frame.
    fn frame(&self) -> Vec<u8>;
}

impl Frame for Packet {
    fn frame(&self) -> Vec<u8> {
        self.bytes()
    }
}

impl Frame for [u8] {
    fn frame(&self) -> Vec<u8> {
        self.to_vec()
    }
}

impl Frame for Vec<u8> {
    fn frame(&self) -> Vec<u8> {
        self.clone()
    }
}

impl Lab {
    /// Runs one frame, whatever becomes of it.
    #[track_caller]
    pub fn run(&self, frame: &(impl Frame + ?Sized)) -> Ran {
        self.kernel.run(self.setting.hook, &frame.frame()).unwrap()
    }

    /// Runs one frame that has to have this outcome and its verdict.
    #[track_caller]
    pub fn step(&mut self, frame: &(impl Frame + ?Sized), expected: Outcome) -> Ran {
        let ran = self.run(frame);
        self.assert_outcomes(&[(expected, 1)]);
        let verdict = match ran.action {
            Action::Pass => Verdict::Passed,
            Action::Drop => Verdict::Dropped,
            Action::Redirect | Action::Transmit => Verdict::Sent,
            Action::Other(number) => panic!("{expected:?} with the kernel's action {number}"),
        };
        // The one outcome with two verdicts: see `ttl_expires_silently`.
        if (expected, verdict) != (Outcome::TtlExpired, Verdict::Dropped) {
            assert_eq!(verdict, Verdict::of(expected), "{expected:?}");
        }
        ran
    }

    /// The frame is passed as it is.
    #[track_caller]
    pub fn passes(&mut self, frame: &(impl Frame + ?Sized), why: Outcome) {
        assert_eq!(Verdict::of(why), Verdict::Passed, "a spec's own mistake");
        let ran = self.step(frame, why);
        assert_eq!(ran.packet, frame.frame(), "passed, but not as it came");
    }

    /// The frame is dropped.
    #[track_caller]
    pub fn drops(&mut self, frame: &(impl Frame + ?Sized), why: Outcome) {
        assert_eq!(Verdict::of(why), Verdict::Dropped, "a spec's own mistake");
        self.step(frame, why);
    }

    /// The frame is dropped because its time to live ran out, and nothing is said about it.
    #[track_caller]
    pub fn ttl_expires_silently(&mut self, frame: &(impl Frame + ?Sized)) {
        let ran = self.step(frame, Outcome::TtlExpired);
        assert_eq!(ran.action, Action::Drop, "answered");
    }

    /// A frame is sent, which the independent implementation finds right; returns it.
    #[track_caller]
    pub fn emits(&mut self, frame: &(impl Frame + ?Sized), why: Outcome) -> Packet {
        assert_eq!(Verdict::of(why), Verdict::Sent, "a spec's own mistake");
        let ran = self.step(frame, why);
        assert!(ran.action != Action::Drop, "{why:?}, but dropped");
        if let Err(error) = oracle::verify(&ran.packet) {
            panic!("{why:?}: {error}: {:#?}", Packet::read(&ran.packet));
        }
        Packet::read(&ran.packet)
    }

    /// Exactly this packet is sent.
    #[track_caller]
    pub fn emits_exactly(
        &mut self,
        frame: &(impl Frame + ?Sized),
        why: Outcome,
        expected: &Packet,
    ) {
        let ran = self.step(frame, why);
        assert!(ran.action != Action::Drop, "{why:?}, but dropped");
        assert_same(&ran.packet, &self.shown(&ran.packet, expected));
        assert_eq!(oracle::verify(&ran.packet), Ok(()));
    }

    /// A packet of a known flow is translated and sent to its server.
    #[track_caller]
    pub fn forwards(&mut self, connection: &Connection, packet: &Packet) {
        self.emits_exactly(packet, Outcome::Forwarded, &connection.to_server(packet));
    }

    /// A packet of the server is translated and sent to the client.
    #[track_caller]
    pub fn replies(&mut self, connection: &Connection, packet: &Packet) {
        self.emits_exactly(packet, Outcome::Replied, &connection.to_client(packet));
    }

    /// A client's first packet is translated and sent to some server by some port; returns the flow.
    #[track_caller]
    pub fn opens(&mut self, packet: &Packet) -> Connection {
        let sent = self.emits(packet, Outcome::Forwarded);
        let connection = self.connection(packet, &sent);
        let expected = connection.to_server(packet);
        assert_same(&sent.bytes(), &self.shown(&sent.bytes(), &expected));
        connection
    }

    /// A packet as a test run shows it: see `shown_tags`.
    fn shown(&self, seen: &[u8], packet: &Packet) -> Packet {
        let tags = self.shown_tags(&Packet::read(seen), &packet.tags);
        packet.clone().tags(&tags)
    }

    /// The tags that a test run shows of a packet that has `tags`, being one that looks like `seen`.
    /// At TC the kernel keeps the outermost tag beside the bytes once a program has put it on, and a
    /// test run shows the bytes alone.
    pub fn shown_tags(&self, seen: &Packet, tags: &[Tag]) -> Vec<Tag> {
        let is_hidden = self.setting.hook == Hook::Tc && seen.tags != tags;
        tags.iter().skip(usize::from(is_hidden)).copied().collect()
    }

    /// The flow that a client's packet began, and that left as `sent`.
    #[track_caller]
    pub fn connection(&self, packet: &Packet, sent: &Packet) -> Connection {
        let number = self.setting.family.server_number(sent.destination.ip());
        Connection {
            client: packet.source,
            listener: packet.destination,
            source: sent.source,
            server: sent.destination,
            number: number.unwrap_or_else(|| panic!("{} is no server", sent.destination)),
            protocol: packet.protocol(),
            tags: packet.tags.clone(),
            server_tags: number.map(|n| self.tags_of(n)).unwrap_or_default(),
        }
    }

    /// A client's SYN.
    pub fn syn(&self, n: u16) -> Packet {
        Packet::tcp(self.client(n), self.listener_address(), flags::SYN).ack(0)
    }

    /// A client's first datagram.
    pub fn query(&self, n: u16) -> Packet {
        Packet::udp(self.client(n), self.listener_address(), b"query")
    }

    /// A client's SYN is sent to a server.
    #[track_caller]
    pub fn open(&mut self, n: u16) -> Connection {
        let syn = self.syn(n);
        self.opens(&syn)
    }

    /// A client opens a connection and the server takes it: each packet has to be translated.
    #[track_caller]
    pub fn establish(&mut self, n: u16) -> Connection {
        let connection = self.open(n);
        self.shake_hands(&connection);
        connection
    }

    /// The rest of a handshake.
    #[track_caller]
    pub fn shake_hands(&mut self, connection: &Connection) {
        self.replies(connection, &connection.from_server(flags::SYN_ACK));
        self.forwards(connection, &connection.from_client(flags::ACK));
    }

    /// A client's datagram is sent to a server, which answers.
    #[track_caller]
    pub fn exchange(&mut self, n: u16) -> Connection {
        let query = self.query(n);
        let connection = self.opens(&query);
        self.replies(&connection, &connection.response(b"response"));
        connection
    }

    /// Both sides close, the client first, and the client acknowledges the server's FIN.
    #[track_caller]
    pub fn close(&mut self, connection: &Connection) {
        self.forwards(connection, &connection.from_client(flags::FIN_ACK));
        self.replies(
            connection,
            &connection.from_server(flags::FIN_ACK).ack(super::CLIENT_ISN + 2),
        );
        let last = connection.from_client(flags::ACK);
        let last = last.seq(super::CLIENT_ISN + 2).ack(super::SERVER_ISN + 2);
        self.forwards(connection, &last);
    }

    /// Which server a client's first packet is sent to.
    #[track_caller]
    pub fn server_of(&mut self, packet: &Packet) -> u16 {
        self.opens(packet).number
    }
}

/// Says where two frames differ, as packets if they are.
#[track_caller]
fn assert_same(frame: &[u8], expected: &Packet) {
    if frame != expected.bytes() {
        assert_eq!(&Packet::read(frame), expected, "(left: what was sent)");
        assert_eq!(frame, expected.bytes(), "the same packet, but another checksum or length");
    }
}
