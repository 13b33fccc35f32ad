//! Ad clicks as a site's producers send them: JSON of about 200 bytes, the same for the same seed.

use client::rng::Rng;

/// 2026-11-02 09:00 UTC, ms since 1970: the first click's time. Not the clock's, so that a seed gives
/// the same bytes every time.
const FIRST_MS: u64 = 1_793_610_000_000;
/// Mean time between two clicks, ms.
const GAP_MS: u64 = 40;
const CAMPAIGNS: u64 = 40;
/// Of each campaign.
const CREATIVES: u64 = 12;

const PLATFORMS: [&str; 16] = [
    "Windows NT 10.0; Win64; x64",
    "Windows NT 10.0; WOW64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "X11; CrOS x86_64 14541.0.0",
    "iPhone; CPU iPhone OS 17_6 like Mac OS X",
    "iPhone; CPU iPhone OS 18_1 like Mac OS X",
    "iPad; CPU OS 17_6 like Mac OS X",
    "Linux; Android 10; K",
    "Linux; Android 12; SM-A525F",
    "Linux; Android 13; SM-G991B",
    "Linux; Android 14; Pixel 8",
    "Linux; Android 14; SM-S918B",
    "Linux; Android 15; Pixel 9 Pro",
    "Linux; Android 13; M2101K6G",
    "Linux; Tizen 7.0; SMART-TV",
];

const BROWSERS: [&str; 14] = [
    "Chrome/128.0.0.0",
    "Chrome/129.0.0.0",
    "Chrome/130.0.0.0",
    "Chrome/131.0.0.0",
    "Chrome/131.0.0.0 Mobile",
    "Chrome/130.0.0.0 Edg/130.0",
    "Chrome/130.0.0.0 OPR/115.0",
    "Version/17.6 Safari/605.1",
    "Version/18.1 Safari/605.1",
    "Firefox/128.0",
    "Firefox/131.0",
    "Firefox/132.0",
    "SamsungBrowser/26.0",
    "Mobile/15E148",
];

/// User agents that differ: every browser on every platform.
pub(crate) const USER_AGENTS: usize = PLATFORMS.len() * BROWSERS.len();
const _: () = assert!(USER_AGENTS >= 200);

/// Clicks without end.
pub(crate) struct Clicks {
    rng: Rng,
    at_ms: u64,
}

impl Clicks {
    /// The same seed gives the same clicks.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            at_ms: FIRST_MS,
        }
    }

    /// Below `bound`, small numbers far more often than large ones: a few campaigns have most clicks.
    fn skewed(&mut self, bound: u64) -> u64 {
        let below = self.rng.below(bound);
        self.rng.below(below + 1)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let at = self.skewed(from.len() as u64);
        usize::try_from(at)
            .ok()
            .and_then(|at| from.get(at))
            .copied()
            .unwrap_or_default()
    }
}

impl Iterator for Clicks {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let id = uuid(&mut self.rng);
        self.at_ms += self.rng.below(2 * GAP_MS);
        let ip = self.rng.next_u64().to_le_bytes();
        // 1 to 223: no reserved or multicast network in front.
        let (first, [_, second, third, fourth, ..]) = (1 + self.rng.below(223), ip);
        let (platform, browser) = (self.pick(&PLATFORMS), self.pick(&BROWSERS));
        let campaign = 100 + self.skewed(CAMPAIGNS);
        let creative = campaign * 100 + self.skewed(CREATIVES);
        let price = self.rng.below(2_000);
        let click = format!(
            "{{\"id\":\"{id}\",\"ts\":{},\"ip\":\"{first}.{second}.{third}.{fourth}\",\
             \"ua\":\"Mozilla/5.0 ({platform}) {browser}\",\
             \"campaign\":{campaign},\"creative\":{creative},\"price\":0.{price:04}}}",
            self.at_ms
        );
        Some(click.into_bytes())
    }
}

/// In the form of a random UUID (version 4 of RFC 9562), from a generator that is none for secrets.
pub(crate) fn uuid(rng: &mut Rng) -> String {
    let (high, low) = (rng.next_u64(), rng.next_u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_click_is_json_of_about_200_bytes() {
        let clicks: Vec<Vec<u8>> = Clicks::new(1).take(5_000).collect();
        let sizes: Vec<usize> = clicks.iter().map(Vec::len).collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((190..=210).contains(&mean), "mean {mean}");
        assert!(sizes.iter().all(|size| (150..=250).contains(size)));
        for click in &clicks {
            let value: serde_json::Value = serde_json::from_slice(click).unwrap();
            let ip: std::net::Ipv4Addr = value["ip"].as_str().unwrap().parse().unwrap();
            assert!(!ip.is_multicast() && !ip.is_unspecified());
            assert_eq!(value["id"].as_str().unwrap().len(), 36);
            assert!(value["price"].as_f64().unwrap() < 0.2);
        }
    }

    #[test]
    fn a_seed_gives_the_same_clicks_and_another_seed_gives_others() {
        let first: Vec<Vec<u8>> = Clicks::new(7).take(100).collect();
        assert_eq!(first, Clicks::new(7).take(100).collect::<Vec<_>>());
        assert_ne!(first, Clicks::new(8).take(100).collect::<Vec<_>>());
    }

    #[test]
    fn ids_differ_and_have_the_form_of_a_random_uuid() {
        let mut rng = Rng::new(3);
        let ids: BTreeSet<String> = (0..10_000).map(|_| uuid(&mut rng)).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            let bytes = id.as_bytes();
            assert_eq!((bytes.len(), bytes[14]), (36, b'4'));
            assert!(b"89ab".contains(&bytes[19]), "{id}");
            assert!([8, 13, 18, 23].iter().all(|at| bytes[*at] == b'-'));
        }
    }

    #[test]
    fn more_than_two_hundred_user_agents_appear() {
        let agents: BTreeSet<String> = Clicks::new(5)
            .take(60_000)
            .map(|click| {
                let value: serde_json::Value = serde_json::from_slice(&click).unwrap();
                value["ua"].as_str().unwrap().to_owned()
            })
            .collect();
        assert!(agents.len() >= 200, "{}", agents.len());
    }
}
