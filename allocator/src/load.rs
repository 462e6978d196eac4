//! How loaded a bridge is: one figure from its report, used for choosing bridges and shown to operators.

use ratssaal_proto::allocator::v1::Load;

/// The figure of a bridge that can take nobody.
pub const FULL: u32 = 1000;

/// The share of its dearest resource that a bridge uses, in ‰, at most [`FULL`]:
///
/// ```text
/// max( seats        / seat_limit,
///      cpu of the busiest media worker (moving average),
///      max(bits received, bits sent) / link,
///      sockets      / socket_limit )
/// ```
///
/// `seats` are the seats that count for placement: those the bridge reports and those reserved or taken since. A limit
/// of 0 means unknown, and that resource does not count; without a seat limit nobody can be placed, so that is full.
/// Shares are rounded down: a bridge is full when a resource is used up, not before.
#[must_use]
pub fn permille(load: &Load, seats: u32) -> u32 {
    let seats = if load.seat_limit == 0 { FULL } else { share(seats.into(), load.seat_limit.into()) };
    seats.max(besides_seats(load))
}

/// The same without the seats: what changes only with the bridge's next report.
pub(crate) fn besides_seats(load: &Load) -> u32 {
    let link = share(load.receive_bps.max(load.send_bps), load.link_bps);
    let sockets = share(load.sockets.into(), load.socket_limit.into());
    load.cpu_permille.min(FULL).max(link).max(sockets)
}

fn share(used: u64, limit: u64) -> u32 {
    if limit == 0 {
        return 0;
    }
    let permille = u128::from(used) * u128::from(FULL) / u128::from(limit);
    u32::try_from(permille).map_or(FULL, |permille| permille.min(FULL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_resource_decides() {
        let idle = Load { seat_limit: 200, ..Load::default() };
        let gigabit = 1_000_000_000;
        let table = [
            ("nothing used", idle, 0, 0),
            ("seats", idle, 50, 250),
            ("rounded down", idle, 199, 995),
            ("the last seat", idle, 200, 1000),
            ("more than all seats", idle, 5000, 1000),
            ("no seats at all", Load::default(), 0, 1000),
            ("cpu above seats", Load { cpu_permille: 700, ..idle }, 50, 700),
            ("seats above cpu", Load { cpu_permille: 100, ..idle }, 50, 250),
            ("cpu beyond all bounds", Load { cpu_permille: u32::MAX, ..idle }, 0, 1000),
            ("sending", Load { send_bps: gigabit / 2, receive_bps: 1, link_bps: gigabit, ..idle }, 0, 500),
            ("receiving", Load { send_bps: 1, receive_bps: gigabit / 4, link_bps: gigabit, ..idle }, 0, 250),
            ("unknown link", Load { send_bps: gigabit, ..idle }, 0, 0),
            ("bits beyond all bounds", Load { send_bps: u64::MAX, link_bps: 1, ..idle }, 0, 1000),
            ("sockets", Load { sockets: 900, socket_limit: 1024, ..idle }, 0, 878),
            ("packets and drops do not count", Load { drop_permille: 999, send_pps: u64::MAX, ..idle }, 0, 0),
        ];
        for (name, load, seats, expected) in table {
            assert_eq!(permille(&load, seats), expected, "{name}");
        }
    }
}
