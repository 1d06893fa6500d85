//! Where a sidecar listens in its pod unless it is told otherwise. The command, the rules that redirect connections to it
//! and the controller that puts it into pods go by the same numbers.

/// Where connections to the workload come in.
pub const INBOUND: u16 = 15006;
/// Where calls of the workload come in.
pub const OUTBOUND: u16 = 15001;
/// Probes and metrics.
pub const ADMIN: u16 = 15090;
