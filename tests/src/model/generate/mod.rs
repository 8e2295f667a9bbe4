//! Making up runs: packets that follow plausible lives of flows, with deviations, and what the
//! process and time do meanwhile. Chance is a seed's, and what is known of flows is the model's, so
//! a seed always makes the same run.

mod changes;
mod damage;
mod dice;
mod errors;
mod pieces;
mod shape;
mod talk;
mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::balance::Model;
use super::settings::{Hook, Listener};
use super::step::Step;
use super::tuple::Tuple;

pub use dice::Dice;
use pieces::Started;
pub use shape::{Carried, Piece, Shape};
use talk::Numbers;
use world::World;
pub(super) use world::known_clients;

/// Makes up one run.
pub struct Generator {
    dice: Dice,
    world: World,
    hook: Hook,
    /// What both sides of a TCP connection have sent, by the client's tuple.
    numbers: BTreeMap<Tuple, Numbers>,
    /// Datagrams whose first fragment was sent a little while ago.
    started: Vec<Started>,
    /// What the process saw of idle flows and has not acted on yet.
    looked: Vec<(Tuple, (u64, u64))>,
    /// Listeners that were removed and may come back.
    removed: BTreeMap<(SocketAddr, u8), Listener>,
}

impl Generator {
    /// The run of a seed at a hook, and the steps that build its world.
    pub fn new(seed: u64, hook: Hook) -> (Self, Vec<Step>) {
        let mut dice = Dice::new(seed);
        let (world, steps) = world::build(&mut dice, hook);
        let generator = Self {
            dice,
            world,
            hook,
            numbers: BTreeMap::new(),
            started: Vec::new(),
            looked: Vec::new(),
            removed: BTreeMap::new(),
        };
        (generator, steps)
    }

    /// The next step, given what the model knows.
    pub fn step(&mut self, model: &Model) -> Step {
        match self.dice.weighed(&[300, 1, 575, 9]) {
            0 => self.tick(model),
            1 => self.leap(model),
            2 => Step::Packet(self.hook, self.frame(model)),
            _ => self.change(model),
        }
    }

    fn frame(&mut self, model: &Model) -> Vec<u8> {
        let frame = match self.dice.weighed(&[430, 260, 70, 90, 60, 40, 30]) {
            0 => self.client_says(model).frame(),
            1 => self.server_says(model).frame(),
            2 => self.first_piece(model).frame(),
            3 => self.later_piece(model).frame(),
            4 => self.error(model),
            5 => self.echo().frame(),
            _ => self.foreign().frame(),
        };
        if !self.dice.permille(40) {
            return frame;
        }
        let damaged = self.damaged(frame.clone());
        if is_run(self.hook, &damaged) { damaged } else { frame }
    }
}

/// Whether the kernel runs a program on a frame: at TC not on one whose network header is cut.
fn is_run(hook: Hook, frame: &[u8]) -> bool {
    let least = match (hook, frame.get(12..14)) {
        (Hook::Tc, Some([8, 0])) => 34,
        (Hook::Tc, Some([0x86, 0xdd])) => 54,
        (Hook::Tc | Hook::Xdp, _) => 14,
    };
    frame.len() >= least
}
