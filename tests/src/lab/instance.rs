//! What a process pins.

use deston::datapath::remove_instance;

use super::Lab;

/// The pins of a lab's balancer; dropped, all that is left of them is removed.
pub struct Instance(String);

impl Instance {
    /// An instance that no other lab has.
    pub fn new(lab: &Lab) -> Self {
        Self(lab.balancer.name().to_owned())
    }

    /// What a configuration says of it.
    pub fn keys(&self) -> String {
        format!("[kernel]\ninstance = \"{}\"\n", self.0)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Nothing is left where the spec passed.
        let _ = remove_instance(&self.0, true);
    }
}
