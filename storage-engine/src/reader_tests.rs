//! Tests of reading as a whole: what pages hold, what they cost, and what happens when files are
//! replaced or damaged meanwhile.

mod damage;
mod model;
mod reads;
mod real_disk;
mod swaps;
mod world;
