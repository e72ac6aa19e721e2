//! Runs that are stopped, by whatever, go on with the same command and end with the same bits; so do those that several
//! processes share.

mod damage;
mod disk;
mod killed;
mod options;
mod place;
mod shards;
