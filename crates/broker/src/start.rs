//! From a configuration to a broker that listens, and back to files that a next one opens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use protocol::message_id::UniqueIds;
use remoting::tls::{ServerTls, TlsError, TlsKeys};
use remoting::{Budget, Gate, Server, ServerConfig, Service};
use storage::{FlushMode, FlushState, Store};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::config::BrokerKeys;
use crate::requests::reply::REPLIES_MAX;
use crate::service::BrokerService;
use crate::settings::Settings;
use crate::{BLOCKING_REQUESTS_MAX, Broker, Context, Identity, MASTER_ID};
use crate::{
    arrivals, clients, compaction, filters, groups, locks, longpoll, offsets, persist, pop,
    registration, request_modes, schedule, static_topics, system_topics, timers, topics,
    transactions,
};

/// The VIP port lies this far below the port for clients.
const VIP_PORT_BELOW: u16 = 2;

/// Why a broker did not start. Nothing listens, and files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting makes no sense.
    #[error("{0}")]
    Configuration(String),
    /// The store did not open.
    #[error(transparent)]
    Store(#[from] storage::OpenError),
    /// A file of `config/` could not be read.
    #[error(transparent)]
    Load(#[from] persist::LoadError),
    /// The files of timer messages cannot be read or written.
    #[error("cannot open the files of timer messages: {0}")]
    Timers(io::Error),
    /// TLS cannot be set up as configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port is taken, or may not be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The host name of `brokerIP1` has no address.
    #[error("cannot find the address of brokerIP1={host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What a start reads from the disk.
struct Loaded {
    store: Arc<Store>,
    topics: topics::Topics,
    groups: groups::Groups,
    offsets: offsets::Offsets,
    filters: filters::Filters,
    schedule: schedule::Schedule,
    timers: Option<timers::Timers>,
    transactions: transactions::Transactions,
    request_modes: request_modes::RequestModes,
    order_file: pop::order_file::OrderFile,
    static_topics: static_topics::StaticTopics,
}

/// A broker with everything around it that runs.
pub struct Running {
    broker: Arc<Broker>,
    service: Arc<dyn Service>,
    server: Server,
    vip: Option<Server>,
    registration: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Opens the store, listens, and begins to register. Must be called within a tokio runtime.
    ///
    /// On return the broker accepts; whether the name servers have heard of it by then is another matter.
    pub async fn start(keys: BrokerKeys, context: Context) -> Result<Running, StartError> {
        let store_config = store_config(&keys)?;
        let budget = budget(&keys);
        let server_config = server_config(&keys, budget.clone())?;
        let config_dir = store_config.root.join("config");
        let (disk, clock) = (context.disk.clone(), context.clock.clone());
        let loaded = {
            let (config_dir, disk, keys) = (config_dir.clone(), disk.clone(), keys.clone());
            let root = store_config.root.clone();
            let (effects, runtime) = (context.clone(), tokio::runtime::Handle::current());
            blocking(move || -> Result<_, StartError> {
                let topics = topics::Topics::read_files(&config_dir, disk.clone())?
                    .with_light(keys.enable_lmq);
                let mut store_config = store_config;
                store_config.batch_topics = topics.batch_names();
                let store = Store::open(store_config, disk.clone(), clock.clone())?;
                topics.settle();
                let groups =
                    groups::Groups::load(&config_dir, disk.clone())?.with_light(keys.enable_lmq);
                let offsets = offsets::Offsets::load(&config_dir, disk.clone(), keys.enable_lmq)?;
                offsets.clamp(|topic, queue_id| store.max_offset(topic, queue_id) as i64);
                let filters = filters::Filters::load(&config_dir, disk.clone(), clock.now_ms());
                let request_modes = request_modes::RequestModes::load(&config_dir, disk.clone())?;
                let order_file = pop::order_file::OrderFile::load(&config_dir, disk.clone());
                let static_topics = static_topics::StaticTopics::load(&config_dir, disk.clone())?;
                let schedule = schedule::Schedule::load(
                    &config_dir,
                    disk.clone(),
                    store.clone(),
                    clock.clone(),
                )?;
                let timers = load_timers(&keys, &root, &config_dir, &effects, &store, runtime)?;
                let transactions = transactions::Transactions::load(
                    &config_dir,
                    disk,
                    store.clone(),
                    &offsets,
                    &keys,
                );
                Ok(Loaded {
                    store,
                    topics,
                    groups,
                    offsets,
                    filters,
                    schedule,
                    timers,
                    transactions,
                    request_modes,
                    order_file,
                    static_topics,
                })
            })
            .await?
        };
        let Loaded {
            store,
            topics,
            groups,
            offsets,
            filters,
            schedule,
            timers,
            transactions,
            request_modes,
            order_file,
            static_topics,
        } = loaded;

        let (gate, gate_receiver) = watch::channel(Gate::default());
        store.on_flush(move |state| pass_on(&gate, state));
        let service = Arc::new(BrokerService::new(gate_receiver));
        let server = listen(&keys, server_config.clone(), service.clone())?;
        let identity = identity(&keys, server.local_addr().port())?;
        system_topics::create(&topics, &keys, &identity);
        let keys = Arc::new(keys);
        let broker = Arc::new(Broker {
            settings: RwLock::new(Arc::new(Settings::new(keys.clone(), &identity))),
            unique_ids: UniqueIds::new(
                identity.address.ip(),
                std::process::id(),
                context.clock.now_ms() as i32,
            ),
            started_at_ms: context.clock.now_ms(),
            identity,
            config_dir,
            next_queue: AtomicU32::new(0),
            blocking: Arc::new(Semaphore::new(BLOCKING_REQUESTS_MAX)),
            replies: Arc::new(Semaphore::new(REPLIES_MAX)),
            runtime: tokio::runtime::Handle::current(),
            client: context.client.clone(),
            context,
            counters: Default::default(),
            rates: Default::default(),
            stats: Default::default(),
            store: store.clone(),
            topics,
            groups,
            offsets,
            clients: clients::Clients::default(),
            filters,
            locks: locks::QueueLocks::default(),
            broadcasts: Default::default(),
            cold_reads: Default::default(),
            schedule: Arc::new(schedule),
            timers: timers.map(Arc::new),
            transactions: Arc::new(transactions),
            budget: budget.clone(),
            longpoll: Arc::new(longpoll::LongPoll::new(budget.clone())),
            pop: Arc::new(pop::Pop::new(budget.clone(), order_file)),
            request_modes,
            static_topics,
            registration: registration::Registration::default(),
        });
        broker.pop.order_file.restore(&broker);
        store.set_read_ahead(keys.data_read_ahead_enable);
        store.set_arrivals(Arc::new(arrivals::Arrivals {
            longpoll: broker.longpoll.clone(),
            pop: broker.pop.clone(),
            schedule: broker.schedule.clone(),
            timers: broker.timers.clone(),
        }));
        broker.schedule.watch();
        if let Some(timers) = &broker.timers {
            timers.watch();
        }
        service.begin(broker.clone());
        let service: Arc<dyn Service> = service;
        let vip = vip(&keys, server.local_addr(), server_config, &service);
        let registration = tokio::spawn(registration::run(broker.clone()));
        let mut tasks = vec![
            tokio::spawn(longpoll::run(broker.clone())),
            tokio::spawn(pop::waiting::run(broker.clone())),
            tokio::spawn(pop::revive::run(broker.clone())),
            tokio::spawn(pop::java::run(broker.clone())),
            tokio::spawn(persist::run(broker.clone())),
            tokio::spawn(transactions::run(broker.clone())),
            tokio::spawn(schedule::run(broker.schedule.clone(), {
                let broker = broker.clone();
                move || Duration::from_millis(broker.keys().flush_delay_offset_interval)
            })),
        ];
        if keys.enable_compaction {
            tasks.push(tokio::spawn(compaction::run(broker.clone())));
        }
        if let Some(timers) = &broker.timers {
            let broker = broker.clone();
            tasks.push(tokio::spawn(timers::run(timers.clone(), move || {
                timer_settings(&broker.keys())
            })));
        }
        Ok(Running {
            broker,
            service,
            server,
            vip,
            registration,
            tasks,
        })
    }
}

impl Running {
    /// The broker itself.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// What connections talk to, for `remoting::Client::register_local`.
    pub fn service(&self) -> Arc<dyn Service> {
        self.service.clone()
    }

    /// Returns when the name servers have heard of this broker, or after `timeout`.
    pub async fn registered(&self, timeout: Duration) {
        self.broker.registration.everything_changed();
        self.broker.registration.settled(timeout).await;
    }

    /// Says goodbye to name servers and clients, writes everything that is still in memory, and closes the store.
    pub async fn shutdown(self) -> io::Result<()> {
        // A registration under way must not come behind the goodbye.
        self.registration.abort();
        let _ = self.registration.await;
        registration::unregister(&self.broker).await;
        if let Some(vip) = &self.vip {
            vip.shutdown().await;
        }
        self.server.shutdown().await;
        for task in &self.tasks {
            task.abort();
        }
        let mut delivered = self.broker.schedule.shutdown().await;
        if let Some(timers) = &self.broker.timers {
            delivered = delivered.and(timers.shutdown().await);
        }
        let broker = self.broker.clone();
        blocking(move || {
            let checked = broker.transactions.save(&broker);
            let saved = persist::fold_all(&broker);
            broker.store.close();
            saved.and(delivered).and(checked)
        })
        .await
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("broker", &self.broker)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Runs `work` on the blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // A panic in a task is a bug; it goes on where it would have been seen without the task.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The timers, unless they are switched off. Blocks.
fn load_timers(
    keys: &BrokerKeys,
    root: &Path,
    config_dir: &Path,
    context: &Context,
    store: &Arc<Store>,
    runtime: tokio::runtime::Handle,
) -> Result<Option<timers::Timers>, StartError> {
    if !keys.timer_wheel_enable {
        return Ok(None);
    }
    let loaded = timers::Timers::load(timers::Context {
        root,
        config_dir,
        disk: context.disk.clone(),
        clock: context.clock.clone(),
        store: store.clone(),
        spawn: Arc::new(move |work| drop(runtime.spawn_blocking(work))),
        settings: timer_settings(keys),
    });
    loaded.map(Some).map_err(StartError::Timers)
}

/// What the timers need of the configuration.
fn timer_settings(keys: &BrokerKeys) -> timers::TimerSettings {
    let reserved_ms = keys.file_reserved_time.saturating_mul(3_600_000);
    let window_ms = keys
        .timer_roll_window_slot
        .saturating_mul(keys.timer_precision_ms);
    timers::TimerSettings {
        stop_enqueue: keys.timer_stop_enqueue,
        stop_dequeue: keys.timer_stop_dequeue,
        precision_ms: keys.timer_precision_ms as i64,
        roll_age_ms: i64::try_from(window_ms.min(reserved_ms / 2)).unwrap_or(i64::MAX),
        save_interval: Duration::from_millis(keys.flush_delay_offset_interval),
    }
}

/// Passes the store's watermark on to the connections that hold answers.
fn pass_on(gate: &watch::Sender<Gate>, state: FlushState) {
    gate.send_modify(|gate| {
        gate.position = gate.position.max(state.flushed);
        gate.failed |= state.failed;
    });
}

/// Takes the port for clients.
fn listen(
    keys: &BrokerKeys,
    config: ServerConfig,
    service: Arc<dyn Service>,
) -> Result<Server, StartError> {
    let ip: IpAddr = keys.bind_address.parse().map_err(|_| {
        StartError::Configuration(format!(
            "bindAddress={} is no IP address",
            keys.bind_address
        ))
    })?;
    let address = SocketAddr::new(ip, keys.listen_port);
    Server::bind(address, config, service).map_err(|source| StartError::Listen { address, source })
}

/// The second port, which old clients use for sends. A broker without it serves as well, so a taken port is no error.
fn vip(
    keys: &BrokerKeys,
    main: SocketAddr,
    config: ServerConfig,
    service: &Arc<dyn Service>,
) -> Option<Server> {
    let port = keys
        .listen_port
        .checked_sub(VIP_PORT_BELOW)
        .filter(|port| *port > 0)?;
    let address = SocketAddr::new(main.ip(), port);
    match Server::bind(address, config, service.clone()) {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(%address, %error, "cannot listen on the VIP port; clients with vipChannelEnabled cannot connect");
            None
        }
    }
}

/// What connections to both ports may hold together.
fn budget(keys: &BrokerKeys) -> Arc<Budget> {
    let limit = usize::try_from(keys.connection_memory_bytes).unwrap_or(usize::MAX);
    Budget::new(limit, "connectionMemoryBytes")
}

fn server_config(keys: &BrokerKeys, budget: Arc<Budget>) -> Result<ServerConfig, StartError> {
    let tls = TlsKeys {
        mode: &keys.tls_server_mode,
        cert_path: &keys.tls_server_cert_path,
        key_path: &keys.tls_server_key_path,
        self_signed: keys.tls_test_mode_enable,
    };
    Ok(ServerConfig {
        tls: ServerTls::configured(tls)?,
        idle_close: Duration::from_secs(keys.server_channel_max_idle_time_seconds),
        hold_timeout: Duration::from_millis(keys.sync_flush_timeout),
        budget: Some(budget),
        ..ServerConfig::default()
    })
}

fn identity(keys: &BrokerKeys, port: u16) -> Result<Identity, StartError> {
    if keys.broker_name.is_empty() || keys.broker_cluster_name.is_empty() {
        return Err(StartError::Configuration(
            "brokerName and brokerClusterName must not be empty".to_owned(),
        ));
    }
    let host = match keys.broker_ip1.as_str() {
        "" => own_address(&keys.bind_address).to_string(),
        host => host.to_owned(),
    };
    let address = (host.as_str(), port)
        .to_socket_addrs()
        .and_then(|mut addresses| {
            addresses
                .next()
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
        .map_err(|source| StartError::Resolve {
            host: host.clone(),
            source,
        })?;
    let replica_host = if keys.broker_ip2.is_empty() {
        &host
    } else {
        &keys.broker_ip2
    };
    Ok(Identity {
        cluster: Arc::from(&*keys.broker_cluster_name),
        name: Arc::from(&*keys.broker_name),
        id: master_id(keys.broker_id),
        advertised: Arc::from(format!("{host}:{port}")),
        address,
        replica_address: Arc::from(format!("{replica_host}:{}", keys.ha_listen_port)),
    })
}

/// A master has id 0, whatever its file says. Java 5.3: `BrokerStartup.buildBrokerController`.
fn master_id(configured: i64) -> i64 {
    if configured != MASTER_ID {
        tracing::warn!(
            "brokerId={configured} is a replica's; this broker is a master and registers as {MASTER_ID}"
        );
    }
    MASTER_ID
}

/// The address under which other machines most likely reach this one.
fn own_address(bind_address: &str) -> IpAddr {
    if let Ok(ip) = bind_address.parse::<IpAddr>()
        && !ip.is_unspecified()
    {
        return ip;
    }
    // Choosing a route sends nothing. The address is one of those set aside for documentation: nobody has it.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    match routed {
        Ok(address) if !address.ip().is_unspecified() => address.ip(),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn store_config(keys: &BrokerKeys) -> Result<storage::Config, StartError> {
    let flush = match keys.flush_disk_type.as_str() {
        "SYNC_FLUSH" => FlushMode::Sync,
        "ASYNC_FLUSH" => FlushMode::Async,
        other => {
            return Err(StartError::Configuration(format!(
                "flushDiskType={other} must be SYNC_FLUSH (survives power loss) or ASYNC_FLUSH"
            )));
        }
    };
    let hours = keys
        .delete_when
        .split(';')
        .map(str::trim)
        .filter(|hour| !hour.is_empty());
    let delete_when_hours = hours
        .map(|hour| {
            let parsed = hour.parse::<u8>().ok().filter(|hour| *hour < 24);
            parsed.ok_or_else(|| {
                StartError::Configuration(format!(
                    "deleteWhen={hour} must be hours from 00 to 23, separated by semicolons"
                ))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let commit_log = &keys.store_path_commit_log;
    if commit_log.contains(',') {
        return Err(StartError::Configuration(format!(
            "storePathCommitLog={commit_log} names several directories; the log is kept in one. Move its files into one directory"
        )));
    }
    Ok(storage::Config {
        root: path(&keys.store_path_root_dir),
        commit_log_dir: (!commit_log.is_empty()).then(|| path(commit_log)),
        segment_bytes: keys.mapped_file_size_commit_log,
        queue_file_bytes: keys.mapped_file_size_consume_queue,
        batch_queue_file_bytes: keys.mapper_file_size_batch_consume_queue,
        queue_files_max: usize::try_from(keys.max_file_queue_num).unwrap_or(usize::MAX),
        page_cache_bytes: keys.commit_log_page_cache_bytes,
        flush,
        flush_interval_ms: keys.flush_interval_commit_log,
        index_enabled: keys.message_index_enable,
        record_checksum: keys.enabled_append_prop_crc,
        index_slots: keys.max_hash_slot_num,
        index_entries: keys.max_index_num,
        file_reserved_hours: keys.file_reserved_time,
        delete_when_hours,
        clean_interval_ms: keys.clean_resource_interval,
        disk_max_used_ratio: percent(keys.disk_max_used_space_ratio),
        clean_forcibly_ratio: percent(keys.disk_space_clean_forcibly_ratio),
        warning_ratio: percent(keys.disk_space_warning_level_ratio),
        clean_forcibly_enabled: keys.clean_file_forcibly_enable,
        delete_batch_max: keys.delete_file_batch_max as usize,
        hold_expired: keys.timer_wheel_enable,
        hold_for_compaction: keys.enable_compaction,
        message_bytes_max: keys.max_message_size,
        delay_levels: keys.message_delay_level.clone(),
        light_queues: keys.enable_lmq && keys.enable_multi_dispatch,
        ..storage::Config::default()
    })
}

/// The bounds of the keys end at 100.
fn percent(percent: u32) -> u8 {
    u8::try_from(percent).unwrap_or(100)
}

/// A path as users write it: `~` is their home directory.
fn path(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(text),
    }
}
