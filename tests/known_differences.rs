//! Where runc and crun differ from what these tests ask, and why. A listed test that fails under that runtime is
//! counted as a known difference; one that passes is reported, so that the list does not rot.

use crate::harness::Kind;

/// (runtime, test, why). Versions: runc 1.1.5, crun 1.8.1.
const TABLE: &[(Kind, &str, &str)] = &[];

/// Why the test may fail under this runtime.
pub fn find(kind: Kind, test: &str) -> Option<&'static str> {
    TABLE.iter().find(|(of, name, _)| *of == kind && *name == test).map(|(_, _, why)| *why)
}
