//! How bad the world is at the moment. Everything that draws a fault asks here first.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

/// What may befall calls to the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreWeather {
    pub(crate) not_applied: f64,
    pub(crate) lost: f64,
    pub(crate) applied: f64,
    pub(crate) late: f64,
    pub(crate) twice: f64,
    pub(crate) hang: f64,
    /// The longest that something comes late or hangs.
    pub(crate) longest: Duration,
}

/// What may befall requests to the provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProviderWeather {
    pub(crate) refused: f64,
    pub(crate) lost: f64,
    pub(crate) busy: f64,
    pub(crate) rejected: f64,
    pub(crate) declined: f64,
    pub(crate) accepted: f64,
    pub(crate) error: f64,
    /// That the answer does not come back whole.
    pub(crate) unanswered: f64,
    /// That a part of the way takes long.
    pub(crate) slow: f64,
    /// That a look-up fails, or does not see what is there.
    pub(crate) blind: f64,
}

impl StoreWeather {
    pub(crate) const CLEAR: Self = Self {
        not_applied: 0.0,
        lost: 0.0,
        applied: 0.0,
        late: 0.0,
        twice: 0.0,
        hang: 0.0,
        longest: Duration::ZERO,
    };

    const CUT_OFF: Self =
        Self { not_applied: 0.6, hang: 0.4, longest: Duration::from_secs(1), ..Self::CLEAR };

    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..10) {
            0..4 => Self::CLEAR,
            4 => Self::CUT_OFF,
            5 => Self { late: 0.3, longest: Duration::from_secs(40), ..Self::CLEAR },
            6 => Self { applied: 0.5, twice: 0.2, longest: Duration::from_secs(3), ..Self::CLEAR },
            _ => {
                let mut odds = || rng.random_range(0.0..0.12);
                Self {
                    not_applied: odds(),
                    lost: odds(),
                    applied: odds(),
                    late: odds(),
                    twice: odds(),
                    hang: odds(),
                    longest: Duration::from_secs(rng.random_range(1..12)),
                }
            }
        }
    }
}

impl ProviderWeather {
    pub(crate) const CLEAR: Self = Self {
        refused: 0.0,
        lost: 0.0,
        busy: 0.0,
        rejected: 0.0,
        declined: 0.1,
        accepted: 0.1,
        error: 0.0,
        unanswered: 0.0,
        slow: 0.0,
        blind: 0.0,
    };

    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        let mut odds =
            |max: f64| if rng.random_bool(0.5) { 0.0 } else { rng.random_range(0.0..max) };
        Self {
            refused: odds(0.3),
            lost: odds(0.3),
            busy: odds(0.3),
            rejected: odds(0.1),
            declined: odds(0.3),
            accepted: odds(0.3),
            error: odds(0.3),
            unanswered: odds(0.6),
            slow: odds(0.5),
            blind: odds(0.7),
        }
    }
}
