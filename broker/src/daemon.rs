//! The broker as a daemon: store, listeners, tasks.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use config::{BrokerOptions, StorageOptions};
use protocol::command::Bounds;
use protocol::identify::Ranges;
use protocol::names::{ChannelName, TopicName};
use runtime::net::{Address, AddressError, BindError, Listener};
use runtime::{Notify, Stop, clock, spawn};
use storage::Worker;
use storage::disk::LinuxDisk;

use crate::engine::{AdminError, Engine, Settings};
use crate::host::{Host, stamp};
use crate::progress::Progress;
use crate::registration::{Identity, Registration};
use crate::{drive, http, limits, serve};

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A listener has no address.
    #[error("a listening socket has no address: {0}")]
    Listener(io::Error),
    /// The data directory is in use by another broker, or not to be had.
    #[error("data path: {0}")]
    DataPath(storage::disk::LockError),
    /// The store cannot be opened.
    #[error("store in {}: {error}", path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: storage::OpenError,
    },
    /// A channel that shall exist from the start cannot be made.
    #[error("channel {channel}: {error}")]
    Channel {
        /// Topic and channel.
        channel: Box<str>,
        /// Why.
        error: AdminError,
    },
    /// The storage thread does not start.
    #[error("the storage thread: {0}")]
    Worker(io::Error),
}

/// A broker that listens; [`Broker::run`] serves.
pub struct Broker {
    host: Rc<Host<LinuxDisk>>,
    worker: Worker<LinuxDisk>,
    tcp: Listener,
    http: Listener,
    tcp_address: Address,
    http_address: Address,
    about: Rc<http::About>,
    registration: Option<Registration>,
    connections: Connections,
}

#[derive(Clone, Copy)]
struct Connections {
    tcp: usize,
    http: usize,
}

impl Broker {
    /// Opens the store, which recovers, makes the channels that shall be there from the start, and
    /// listens. Blocks while it does.
    ///
    /// # Errors
    /// See [`StartError`]; nothing listens then.
    pub fn bind(
        options: &BrokerOptions,
        precreate: &[(TopicName, ChannelName)],
    ) -> Result<Broker, StartError> {
        OpenStore::new(options, precreate)?.bind(options)
    }

    fn new(
        options: &BrokerOptions,
        OpenStore {
            disk,
            engine,
            connections,
        }: OpenStore,
        tcp: Listener,
        http: Listener,
    ) -> Result<Broker, StartError> {
        let tcp_address = tcp.local_address().map_err(StartError::Listener)?;
        let http_address = http.local_address().map_err(StartError::Listener)?;
        log::info!("TCP: listening on {tcp_address}");
        log::info!("HTTP: listening on {http_address}");
        let worker = Worker::spawn(disk).map_err(StartError::Worker)?;
        let host = Rc::new(Host::new(engine));
        let about = Rc::new(http::About {
            broadcast_address: options.broadcast_address.clone(),
            hostname: hostname(),
            tcp_port: tcp_address.port(),
            http_port: http_address.port(),
            started_wall_ns: clock::wall_ns(),
            started: clock::now(),
            options: options.clone(),
        });
        let registration = registration(options, &about, &host);
        Ok(Broker {
            host,
            worker,
            tcp,
            http,
            tcp_address,
            http_address,
            about,
            registration,
            connections,
        })
    }

    /// Where NSQ clients connect; the real port if the configured one is 0.
    pub fn tcp_address(&self) -> &Address {
        &self.tcp_address
    }

    /// Where HTTP clients connect; the real port if the configured one is 0.
    pub fn http_address(&self) -> &Address {
        &self.http_address
    }

    /// To watch over the storage thread while the broker runs.
    pub fn progress(&self) -> Progress {
        self.host.progress.clone()
    }

    /// Serves until `stop`; then closes listeners and connections, and returns when everything is
    /// on flash.
    pub async fn run(self, stop: Stop) {
        let host = self.host;
        let drained = Stop::new();
        let lookup = self.registration.as_ref().map(Registration::lookup);
        let driver = spawn(drive::drive(
            Rc::clone(&host),
            self.worker,
            lookup,
            drained.clone(),
            limits::STOP_TIMEOUT,
        ));
        let registration = self
            .registration
            .map(|links| spawn(links.run(stop.clone())));
        let http = http::serve(
            Rc::clone(&host),
            self.about,
            self.http,
            self.connections.http,
            stop.clone(),
        );
        let http = spawn(http);
        serve::listen(
            Rc::clone(&host),
            self.tcp,
            self.connections.tcp,
            stop.clone(),
        )
        .await;
        http.await;
        if let Some(registration) = registration {
            registration.await;
        }
        drained.request();
        driver.await;
        log::info!("broker: all is on flash");
    }
}

impl Connections {
    /// HTTP is for administration and for few producers: it gets a quarter, up to a bound.
    fn share(all: usize) -> Connections {
        let http = (all / 4).clamp(1, limits::HTTP_CONNECTIONS_MAX);
        Connections {
            tcp: all.saturating_sub(http).max(1),
            http,
        }
    }
}

/// The store of a broker that does not listen yet: locked, recovered, and with the channels that shall be there.
pub struct OpenStore {
    disk: Arc<LinuxDisk>,
    engine: Engine<LinuxDisk>,
    connections: Connections,
}

impl OpenStore {
    /// Takes the data directory's lock, recovers the store, and makes the channels that shall be there from the
    /// start. Blocks while it does.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(
        options: &BrokerOptions,
        precreate: &[(TopicName, ChannelName)],
    ) -> Result<OpenStore, StartError> {
        let connections = Connections::share(options.connections_max as usize);
        let (disk, mut engine) = open_store(options, connections.tcp)?;
        let initial = options
            .initial_channels
            .iter()
            .map(|route| (&route.topic, &route.channel));
        let given = precreate.iter().map(|(topic, channel)| (topic, channel));
        for (topic, channel) in initial.chain(given) {
            engine
                .precreate(topic, channel)
                .map_err(|error| StartError::Channel {
                    channel: format!("{topic}/{channel}").into(),
                    error,
                })?;
        }
        commit_all(&mut engine, &disk);
        Ok(OpenStore {
            disk,
            engine,
            connections,
        })
    }

    /// Listens at the options' addresses.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn bind(self, options: &BrokerOptions) -> Result<Broker, StartError> {
        let tcp = Listener::bind(&options.tcp_address.parse()?)?;
        let http = Listener::bind(&options.http_address.parse()?)?;
        self.with_listeners(options, tcp, http)
    }

    /// Serves sockets that listen already, such as those that a service manager passes. Clients that connect
    /// meanwhile wait in the kernel until [`Broker::run`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn with_listeners(
        self,
        options: &BrokerOptions,
        tcp: Listener,
        http: Listener,
    ) -> Result<Broker, StartError> {
        Broker::new(options, self, tcp, http)
    }
}

fn open_store(
    options: &BrokerOptions,
    connections_max: usize,
) -> Result<(Arc<LinuxDisk>, Engine<LinuxDisk>), StartError> {
    let path = || options.data_path.clone();
    let disk = LinuxDisk::open(&options.data_path).map_err(StartError::DataPath)?;
    let disk = Arc::new(disk);
    let storage = storage_options(&options.storage);
    let settings = settings(options, connections_max);
    let stamp = stamp();
    // The wall clock and the time since boot, mixed: differs from start to start, which is all that
    // ids need of it.
    let seed = stamp.wall_ns.unsigned_abs() ^ (stamp.now.as_nanos() as u64).rotate_left(32);
    let (engine, report) = Engine::open(Arc::clone(&disk), storage, settings, seed, stamp)
        .map_err(|error| StartError::Store {
            path: path(),
            error,
        })?;
    let store = options.data_path.display();
    if report.has_damage() {
        log::error!("store {store}: damaged, something may be lost: {report}");
    } else if report.is_fresh {
        log::info!("store {store}: new");
    } else {
        log::info!("store {store}: {report}");
    }
    Ok((disk, engine))
}

/// Drives the store on this thread until what was made at the start is on flash.
fn commit_all(engine: &mut Engine<LinuxDisk>, disk: &LinuxDisk) {
    engine.flush();
    for _ in 0..limits::START_JOBS_MAX {
        match engine.poll_job(clock::now()) {
            Some(job) => {
                let done = storage::run_job(disk, job);
                engine.handle_done(clock::now(), done);
            }
            None if engine.is_idle() => return,
            None => {}
        }
    }
}

fn settings(options: &BrokerOptions, connections_max: usize) -> Settings {
    Settings {
        bounds: Bounds {
            message_bytes_max: options.message_bytes_max,
            body_bytes_max: options.body_bytes_max,
            rdy_count_max: options.rdy_count_max,
            req_timeout_max: options.req_timeout_max,
        },
        ranges: ranges(options),
        connections_max,
        outstanding_max: options.storage.outstanding_max as usize,
        pool_bytes: options.bodies_bytes_max as usize,
        lookups: !options.lookupd_tcp_addresses.is_empty(),
    }
}

fn ranges(options: &BrokerOptions) -> Ranges {
    let ranges = Ranges::default();
    Ranges {
        heartbeat_default: ranges.heartbeat_default.min(options.heartbeat_interval_max),
        heartbeat_max: options.heartbeat_interval_max,
        msg_timeout_default: options.msg_timeout,
        msg_timeout_max: options.msg_timeout_max,
        output_buffer_bytes_default: ranges
            .output_buffer_bytes_default
            .min(options.output_buffer_bytes_max),
        output_buffer_bytes_max: options.output_buffer_bytes_max,
        output_buffer_timeout_default: ranges.output_buffer_timeout_default.clamp(
            options.output_buffer_timeout_min,
            options.output_buffer_timeout_max,
        ),
        output_buffer_timeout_min: options.output_buffer_timeout_min,
        output_buffer_timeout_max: options.output_buffer_timeout_max,
    }
}

fn storage_options(options: &StorageOptions) -> storage::Options {
    storage::Options {
        ring_bytes: options.ring_bytes,
        segment_bytes: options.segment_bytes,
        message_bytes_max: options.message_bytes_max,
        batch_bytes_max: options.batch_bytes_max,
        topics_max: options.topics_max,
        channels_max: options.channels_max,
        outstanding_max: options.outstanding_max,
        cache_bytes: options.cache_bytes,
        pending_bytes_max: options.pending_bytes_max,
    }
}

fn registration(
    options: &BrokerOptions,
    about: &http::About,
    host: &Rc<Host<LinuxDisk>>,
) -> Option<Registration> {
    if options.lookupd_tcp_addresses.is_empty() {
        return None;
    }
    // Zero stands for a unix socket: lookupds refuse it, since consumers elsewhere could not
    // connect to it.
    let port = |told: Option<u16>, real: Option<u16>| told.or(real).unwrap_or(0);
    let identity = Identity {
        broadcast_address: options.broadcast_address.clone(),
        hostname: about.hostname.clone(),
        tcp_port: port(options.broadcast_tcp_port, about.tcp_port),
        http_port: port(options.broadcast_http_port, about.http_port),
        version: limits::NSQ_VERSION.to_owned(),
    };
    let changed: Notify = host.catalogue_changed.clone();
    let host = Rc::clone(host);
    let catalogue = move || {
        host.view(|engine| {
            let names = engine.names();
            names
                .map(|(topic, channels)| (topic.clone(), channels.cloned().collect()))
                .collect()
        })
    };
    let addresses = options.lookupd_tcp_addresses.clone();
    Some(Registration::new(
        addresses,
        identity,
        Rc::new(catalogue),
        changed,
    ))
}

/// This machine's name, as the kernel has it.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
