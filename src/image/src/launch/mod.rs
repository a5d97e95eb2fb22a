//! The commands that make bundles and put the runtime on them: `bundle`, `run --image` and `create --image`.

pub mod opened;
pub mod run;
pub mod wanted;
