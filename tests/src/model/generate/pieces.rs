//! Fragments: first ones of either side's datagrams, and later ones of the same.

use super::super::balance::Model;
use super::Generator;
use super::shape::{Piece, Shape};

/// Datagrams that are remembered.
const REMEMBERED: usize = 24;

/// A datagram whose first fragment was sent.
#[derive(Clone, Debug)]
pub(super) struct Started {
    shape: Shape,
}

impl Generator {
    /// The first fragment of a datagram.
    pub(super) fn first_piece(&mut self, model: &Model) -> Shape {
        let mut shape = match self.dice.below(10) {
            0 => self.echo(),
            1..4 => self.server_says(model),
            _ => self.client_says(model),
        };
        shape.piece = Some(Piece { offset: 0, more: true, id: self.dice.below(6) as u32 });
        if self.started.len() >= REMEMBERED {
            let place = self.dice.below(REMEMBERED);
            self.started.swap_remove(place);
        }
        self.started.push(Started { shape: shape.clone() });
        shape
    }

    /// A later fragment, mostly of a datagram that has begun.
    pub(super) fn later_piece(&mut self, model: &Model) -> Shape {
        let mut shape = if self.started.is_empty() || self.dice.permille(150) {
            self.client_says(model)
        } else {
            self.dice.of(&self.started).shape
        };
        let id = shape.piece.map_or(77, |piece| piece.id);
        let offset = self.dice.between(1, 100) as u16;
        shape.piece = Some(Piece { offset, more: self.dice.permille(400), id });
        shape.ttl = if self.dice.permille(30) { 1 } else { 64 };
        shape
    }
}
