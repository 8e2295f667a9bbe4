//! Frames as a broken sender would make them.

use super::Generator;

impl Generator {
    /// The frame, damaged: cut, grown, or with other bytes in it.
    pub(super) fn damaged(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let dice = &mut self.dice;
        match dice.below(6) {
            0 => {
                let len = dice.between(14, frame.len() as u64) as usize;
                frame.truncate(len);
            }
            1 => {
                let more = dice.below(64);
                frame.extend((0..more).map(|n| n as u8));
            }
            // A bit of the headers.
            2 | 3 => {
                let place = 12 + dice.below((frame.len() - 12).min(90));
                frame[place] ^= 1 << dice.below(8);
            }
            // A length, or a header's.
            4 => {
                let place = dice.of(&[14, 16, 17, 18, 19, 20, 46, 58]);
                if let Some(byte) = frame.get_mut(place) {
                    *byte = dice.any() as u8;
                }
            }
            // More tags than are walked, or none where some are said to be.
            _ => {
                let tags = dice.below(4);
                for _ in 0..tags {
                    frame.splice(12..12, [0x81, 0, 0, 9]);
                }
            }
        }
        frame
    }
}
