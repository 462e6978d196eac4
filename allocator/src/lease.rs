//! How many seats a bridge is lent, to give them by itself while no store answers.

/// Seats that one bridge is lent at most.
pub const MOST: u32 = 8;

/// The seats that are lent to a bridge that takes people and has `free` seats: a tenth of them, at least one if there is
/// one, at most [`MOST`]. The bridge alone gives them, and never beyond its own limit, so nobody else need count them.
#[must_use]
pub fn lent(free: u32) -> u32 {
    (free / 10).clamp(1, MOST).min(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_of_those_that_are_free() {
        for (free, expected) in [(0, 0), (1, 1), (9, 1), (19, 1), (20, 2), (79, 7), (80, 8), (100, 8), (u32::MAX, 8)] {
            assert_eq!(lent(free), expected, "{free} free");
        }
    }
}
