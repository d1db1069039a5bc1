//! The schema: the migrations that are built in, those that are recorded, and what the tables must be.

pub mod declared;
pub mod files;
pub mod history;
pub mod mutations;
pub mod projections;
pub mod row_policies;
pub mod tables;
