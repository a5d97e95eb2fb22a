//! Under construction in this very session.
