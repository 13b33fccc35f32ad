//! Where everything is: directories, addresses, configurations, names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, Route, Span};
use protocol::names::{ChannelName, TopicName};
use runtime::clock;
use runtime::net::Address;

use super::children::free_ports;

/// A broken link is tried again soon: it is down for less than a second at a time.
const ROUTE_BACKOFF_MIN: Duration = Duration::from_millis(50);
const ROUTE_BACKOFF_MAX: Duration = Duration::from_millis(400);

/// A program's place.
pub(crate) struct Place {
    pub(crate) tcp: Address,
    pub(crate) http: Address,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
}

/// The whole of it.
pub(crate) struct Site {
    pub(crate) gateway: Place,
    /// The upstream of our own, if it is.
    pub(crate) embedded: Option<Place>,
    pub(crate) upstream_tcp: Address,
    /// Where the gateway finds the upstream.
    pub(crate) link: Address,
    pub(crate) topic: TopicName,
    /// Another in each run, so that old messages of a real nsqd are not taken for new ones.
    pub(crate) upstream_topic: TopicName,
    /// The channel that consumers count on, here and there.
    pub(crate) count: ChannelName,
}

impl Site {
    /// Chooses addresses and names, and writes the configurations into `directory`.
    ///
    /// # Errors
    /// No free ports, or the directory cannot be written to.
    pub(crate) fn lay_out(directory: &Path, upstream: Option<&Address>) -> Result<Self, String> {
        let seed = clock::wall_ns().unsigned_abs() ^ u64::from(std::process::id());
        let [
            tcp,
            http,
            lookupd_tcp,
            lookupd_http,
            link,
            far_tcp,
            far_http,
        ] = free_ports(seed)?;
        let place = |name: &str, tcp: Address, http: Address| Place {
            tcp,
            http,
            config: directory.join(format!("{name}.toml")),
            log: directory.join(format!("{name}.log")),
        };
        let name = |error: protocol::names::NameError| error.to_string();
        let site = Self {
            gateway: place("gateway", tcp, http),
            embedded: upstream
                .is_none()
                .then(|| place("upstream", far_tcp.clone(), far_http)),
            upstream_tcp: upstream.cloned().unwrap_or(far_tcp),
            link,
            topic: TopicName::new("clicks").map_err(name)?,
            upstream_topic: TopicName::new(&format!("clicks.demo-{:012x}", seed >> 16))
                .map_err(name)?,
            count: ChannelName::new("count").map_err(name)?,
        };
        let mut config = base(directory, "gateway", &site.gateway);
        config.lookupd.tcp_address = lookupd_tcp.to_string();
        config.lookupd.http_address = lookupd_http.to_string();
        config.lookupd.broadcast_address = "127.0.0.1".to_owned();
        config.forwarder.routes.push(Route {
            topic: site.topic.as_str().to_owned(),
            channel: "uplink".to_owned(),
            upstream: vec![site.link.to_string()],
            upstream_topic: site.upstream_topic.as_str().to_owned(),
            backoff_min: Span(ROUTE_BACKOFF_MIN),
            backoff_max: Span(ROUTE_BACKOFF_MAX),
            ..Route::default()
        });
        write(&site.gateway, &config)?;
        if let Some(place) = &site.embedded {
            write(place, &base(directory, "upstream", place))?;
        }
        Ok(site)
    }
}

fn base(directory: &Path, name: &str, place: &Place) -> Config {
    let mut config = Config {
        data_path: directory.join(name).display().to_string(),
        ..Config::default()
    };
    config.broker.tcp_address = place.tcp.to_string();
    config.broker.http_address = place.http.to_string();
    config.broker.broadcast_address = "127.0.0.1".to_owned();
    config
}

fn write(place: &Place, config: &Config) -> Result<(), String> {
    std::fs::write(&place.config, config.to_text())
        .map_err(|error| format!("{}: {error}", place.config.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configurations_are_ones_that_the_programs_take() {
        let directory = tempfile::tempdir().unwrap();
        let site = Site::lay_out(directory.path(), None).unwrap();
        let environment = crate::environment::read();
        let gateway = config::load(&site.gateway.config).unwrap();
        let options = gateway.resolve(&environment).unwrap();
        assert_eq!(options.forwarder.routes.len(), 1);
        let upstream = config::load(&site.embedded.unwrap().config).unwrap();
        assert!(upstream.resolve(&environment).is_ok());
        assert_ne!(gateway.data_path, upstream.data_path);
    }

    #[test]
    fn a_real_upstream_needs_no_program_and_each_run_has_its_topic() {
        let directory = tempfile::tempdir().unwrap();
        let address: Address = "nsqd.example.net:4150".parse().unwrap();
        let first = Site::lay_out(directory.path(), Some(&address)).unwrap();
        assert!(first.embedded.is_none());
        assert_eq!(first.upstream_tcp, address);
        let second = Site::lay_out(directory.path(), Some(&address)).unwrap();
        assert_ne!(
            first.upstream_topic.as_str(),
            second.upstream_topic.as_str()
        );
    }
}
