//! Values of version 1 as version 2 wants them. All of config-linux.md speaks version 1.

/// `cpu.shares` (2 to 262144) as `cpu.weight` (1 to 10000), on the curve that maps both ends and 1024 to 100, which
/// runc, crun and systemd share. 0 is unset.
pub(super) fn shares_to_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1 | 2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            // Exact: shares is below 2^18 here.
            #[allow(clippy::cast_precision_loss, reason = "18 bits fit a double")]
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            let weight = 10_f64.powf(exponent).ceil();
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the curve lies between 1 and 10000"
            )]
            let weight = weight as u64;
            Some(weight.clamp(1, 10_000))
        }
    }
}

/// `blkio.weight` (10 to 1000) as `io.weight` (1 to 10000).
pub(super) fn block_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_quadratic_curve() {
        for (shares, weight) in [
            (0, None),
            (1, Some(1)),
            (2, Some(1)),
            (3, Some(2)),
            (100, Some(17)),
            (512, Some(59)),
            (1024, Some(100)),
            (2048, Some(174)),
            (10_000, Some(627)),
            (261_900, Some(9992)),
            (262_143, Some(10_000)),
            (262_144, Some(10_000)),
            (u64::MAX, Some(10_000)),
        ] {
            assert_eq!(shares_to_weight(shares), weight, "{shares}");
        }
    }

    #[test]
    fn the_weight_never_falls_when_the_shares_grow() {
        let mut last = 0;
        for shares in 1..=262_144 {
            let weight = shares_to_weight(shares).unwrap();
            assert!(weight >= last, "{shares}");
            last = weight;
        }
    }

    #[test]
    fn block_weights_map_end_to_end() {
        for (weight, io) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(block_weight(weight), io);
        }
    }
}
