//! What a check finds.

use std::fmt;

use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that was asked for does not work.
    Fault,
    /// It works worse than it could, or will not work in some case.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The kernel is too old, or has no BPF.
    Kernel,
    /// The kernel interprets programs.
    Jit,
    /// Modules of older kernels are missing.
    Modules,
    /// Capabilities are missing.
    Privileges,
    /// What outlives the process has no place.
    Bpffs,
    /// An instance without its process.
    Orphan,
    /// No route leads to a server.
    Route,
    /// The way to a server leads through too many VLAN devices.
    TooManyTags,
    /// A listener is carried otherwise than it was asked for, or could be.
    Carrier,
    /// Somebody else's XDP program.
    ForeignProgram,
    /// The far end of a veth.
    Veth,
    /// Large receive offload.
    Lro,
    /// GRO in the NIC.
    HardwareGro,
    /// The NIC takes VLAN tags off before XDP.
    HiddenTags,
    /// Packets of one link do not fit another.
    Mtu,
    /// A next hop whose Ethernet address is not known.
    Neighbour,
    /// The host does not forward.
    Forwarding,
    /// The host drops what comes in by another way than it would go out.
    ReversePath,
    /// A SNAT address that the host does not have.
    SnatAddress,
    /// SNAT ports that are the host's too.
    Ports,
    /// Rules that packets of listeners pass by.
    Firewall,
}

impl Kind {
    /// What programs know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Jit => "jit",
            Self::Modules => "modules",
            Self::Privileges => "privileges",
            Self::Bpffs => "bpffs",
            Self::Orphan => "orphan",
            Self::Route => "route",
            Self::TooManyTags => "too_many_tags",
            Self::Carrier => "carrier",
            Self::ForeignProgram => "foreign_program",
            Self::Veth => "veth",
            Self::Lro => "lro",
            Self::HardwareGro => "hardware_gro",
            Self::HiddenTags => "hidden_tags",
            Self::Mtu => "mtu",
            Self::Neighbour => "neighbour",
            Self::Forwarding => "forwarding",
            Self::ReversePath => "reverse_path",
            Self::SnatAddress => "snat_address",
            Self::Ports => "ports",
            Self::Firewall => "firewall",
        }
    }
}

/// What mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// A command, to be run by root in the same network namespace.
    Command(String),
    /// Something that no command of this host does.
    Advice(String),
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// What is the matter, and what comes of it.
    pub told: String,
    /// What mends it.
    pub mend: Mend,
}

impl Finding {
    /// A finding that a command mends.
    pub(super) fn command(
        kind: Kind,
        severity: Severity,
        told: impl Into<String>,
        command: impl Into<String>,
    ) -> Self {
        Self { kind, severity, told: told.into(), mend: Mend::Command(command.into()) }
    }

    /// A finding that no command of this host mends.
    pub(super) fn advice(
        kind: Kind,
        severity: Severity,
        told: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { kind, severity, told: told.into(), mend: Mend::Advice(advice.into()) }
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let (command, advice) = match &self.mend {
            Mend::Command(command) => (Some(command), None),
            Mend::Advice(advice) => (None, Some(advice)),
        };
        json!({
            "kind": self.kind.name(),
            "severity": self.severity.name(),
            "finding": self.told,
            "command": command,
            "advice": advice,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.name(), self.told)?;
        match &self.mend {
            Mend::Command(command) => write!(f, "\n    # {command}"),
            Mend::Advice(advice) => write!(f, "\n    {advice}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_as_one_types_it() {
        let found =
            Finding::command(Kind::Lro, Severity::Fault, "it merges", "ethtool -K a lro off");
        assert_eq!(found.to_string(), "fault: it merges\n    # ethtool -K a lro off");
        assert_eq!(found.json()["command"], "ethtool -K a lro off");
        assert_eq!(found.json()["advice"], Value::Null);
    }
}
