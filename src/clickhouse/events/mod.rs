//! The table `events`: its rows, and how they are written, read, audited and dropped.

pub mod audit;
pub mod columns;
pub mod dead_letters;
pub mod insert;
pub mod read;
pub mod retention;
pub mod row;
