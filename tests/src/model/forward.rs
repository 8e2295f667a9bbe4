//! From client to server.

use super::balance::{Model, Said, lost};
use super::frame::{Packet, Part};
use super::outcome::Outcome;
use super::phase::State;
use super::settings::{Forwarding, Listener, Meaning};
use super::tuple::{TCP, UDP};

impl Model {
    /// Carries a client's packet.
    pub(super) fn forward(&mut self, packet: &mut Packet, role: &Meaning) -> Outcome {
        let mut said = self.find(packet);
        if said == Said::GoOn {
            said = self.find_half(packet);
        }
        if said == Said::GoOn {
            said = self.open(packet, role);
        }
        match said {
            Said::Carry => self.send_to_server(packet),
            Said::Stop(outcome) => outcome,
            Said::GoOn => unreachable!("opening decides"),
        }
    }

    fn open(&mut self, packet: &mut Packet, role: &Meaning) -> Said {
        if packet.part == Part::Later {
            return Said::Stop(lost(role));
        }
        if packet.is_of_no_client() {
            return Said::Stop(Outcome::Unrelated);
        }
        let listener = self.listener(&packet.tuple).filter(|_| role.listener).cloned();
        let Some(listener) = listener else { return Said::Stop(Outcome::Unrelated) };
        match self.open_at(packet, &listener) {
            Ok(said) => said,
            Err(outcome) => Said::Stop(outcome),
        }
    }

    fn open_at(&mut self, packet: &mut Packet, listener: &Listener) -> Result<Said, Outcome> {
        self.may_open(packet, listener)?;
        self.admit(packet, listener)?;
        if listener.stack {
            return Err(Outcome::ToStack);
        }
        packet.forwarding = listener.forwarding;
        if packet.is_too_old() {
            return Err(Outcome::TtlExpired);
        }
        let is_recorded = self.pass_flood_gate();
        if !is_recorded && !listener.forwarding.is_dsr() {
            return Err(Outcome::Flooded);
        }
        let server = self.choose(packet, listener, 0)?;
        if !is_recorded {
            packet.server = server;
            return Ok(Said::Carry);
        }
        Ok(self.claim(packet, listener, server, State::default()))
    }

    fn may_open(&self, packet: &Packet, listener: &Listener) -> Result<(), Outcome> {
        if listener.hook != packet.hook {
            return Err(Outcome::OtherHook);
        }
        if !listener.open {
            return Err(Outcome::ListenerClosed);
        }
        if packet.tuple.protocol == UDP || packet.is_opening() {
            return Ok(());
        }
        assert_eq!(packet.tuple.protocol, TCP);
        if listener.stack {
            return Err(Outcome::ToStack);
        }
        let table = self.settings.tables.get(&listener.pool);
        let finds_again = table.is_some_and(|table| table.index.is_hash());
        match listener.forwarding {
            Forwarding::DsrL2 | Forwarding::DsrIpip if finds_again => Ok(()),
            Forwarding::Nat | Forwarding::Dnat | Forwarding::DsrL2 | Forwarding::DsrIpip => {
                Err(Outcome::NoFlow)
            }
        }
    }
}
