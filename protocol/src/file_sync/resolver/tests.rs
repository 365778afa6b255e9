//! The resolver as tables.
