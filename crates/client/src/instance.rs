//! One client towards a cluster: routes kept fresh, heartbeats sent, and the brokers' pushes taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::body::{HeartbeatData, TopicRouteData};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{GetRouteInfoRequest, UnregisterClientRequest};
use protocol::json;
use protocol::light;
use remoting::{Client, ClientConfig, InboundHandler};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::asked::{Asked, Pushes};
use crate::error::Error;
use crate::message::MessageQueue;
use crate::request::Waiting;
use crate::route::{self, MASTER_ID, Route};

/// How long one call may take unless said otherwise.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often routes are asked again and heartbeats sent, as RocketMQ's clients do; brokers forget a client after 120 s.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(30);

/// The parts that producers and consumers share.
pub(crate) struct Instance {
    remoting: Client,
    nameservers: Vec<String>,
    client_id: String,
    routes: RwLock<HashMap<String, Arc<Route>>>,
    /// Addresses by broker name and id, as the newest route that names the broker says: a broker that was started
    /// again elsewhere is found there by all its topics.
    brokers: RwLock<HashMap<String, BTreeMap<i64, String>>>,
    /// What the heartbeat says of this client.
    identity: Mutex<HeartbeatData>,
    pushes: Arc<Pushes>,
    /// When brokers that had forgotten this client were last told who it is, by address.
    greeted: tokio::sync::Mutex<HashMap<String, Instant>>,
    stopping: watch::Sender<bool>,
    stopped: AtomicBool,
    maintenance: Mutex<Option<JoinHandle<()>>>,
}

impl Instance {
    /// Connects to nothing yet: the first route asked for does.
    pub(crate) fn new(nameservers: &str) -> Result<Arc<Self>, Error> {
        let nameservers = parse_addresses(nameservers)?;
        let pushes = Arc::new(Pushes::new(&nameservers));
        let client_id = new_client_id();
        let identity = HeartbeatData {
            client_id: client_id.clone(),
            ..HeartbeatData::default()
        };
        Ok(Arc::new(Self {
            remoting: Client::new(
                ClientConfig::default(),
                Arc::clone(&pushes) as Arc<dyn InboundHandler>,
            ),
            nameservers,
            client_id,
            routes: RwLock::default(),
            brokers: RwLock::default(),
            identity: Mutex::new(identity),
            pushes,
            greeted: tokio::sync::Mutex::default(),
            stopping: watch::Sender::new(false),
            stopped: AtomicBool::new(false),
            maintenance: Mutex::new(None),
        }))
    }

    /// Starts the periodic work. The task holds a weak reference: an instance dropped without shutdown ends it.
    pub(crate) fn start(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let pushes = Arc::clone(&self.pushes);
        let mut stopping = self.stopping.subscribe();
        let task = tokio::spawn(async move {
            let mut period = tokio::time::interval(MAINTENANCE_PERIOD);
            period.set_missed_tick_behavior(MissedTickBehavior::Delay);
            period.tick().await;
            loop {
                let again = tokio::select! {
                    _ = stopping.changed() => return,
                    _ = period.tick() => false,
                    () = pushes.connection_signal().notified() => true,
                };
                let Some(instance) = weak.upgrade() else {
                    return;
                };
                if again {
                    instance.greet_reconnected().await;
                    continue;
                }
                instance.refresh_routes().await;
                instance.heartbeat().await;
            }
        });
        *self.maintenance.lock().expect("no holder panics") = Some(task);
    }

    /// Tells every broker that this client goes, and closes the connections. A second call does nothing.
    pub(crate) async fn shutdown(&self) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        self.stopping.send_replace(true);
        let task = self.maintenance.lock().expect("no holder panics").take();
        if let Some(task) = task {
            task.abort();
        }
        let identity = self.identity.lock().expect("no holder panics").clone();
        let producers = identity
            .producer_data_set
            .iter()
            .map(|p| (Some(p.group_name.clone()), None));
        let consumers = identity
            .consumer_data_set
            .iter()
            .map(|c| (None, Some(c.group_name.clone())));
        let groups: Vec<_> = producers.chain(consumers).collect();
        for addr in self.broker_addresses() {
            for (producer_group, consumer_group) in groups.clone() {
                let header = UnregisterClientRequest {
                    client_id: self.client_id.clone(),
                    producer_group,
                    consumer_group,
                };
                let request = Command::request(RequestCode::UNREGISTER_CLIENT, &header);
                if let Err(error) = self.call(&addr, request, CALL_TIMEOUT).await {
                    tracing::debug!(addr, %error, "a broker was not told that this client goes");
                }
            }
        }
        self.remoting.shutdown();
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Woken when a broker says that the group's members changed.
    pub(crate) fn rebalance_signal(&self) -> &Arc<Notify> {
        self.pushes.rebalance_signal()
    }

    /// What brokers ask of this client is answered by `consumer`, until it is dropped.
    pub(crate) fn answer_by(&self, consumer: Weak<dyn Asked>) {
        self.pushes.answer_by(consumer);
    }

    /// Who answers brokers that ask how a transaction ended. Set once.
    pub(crate) fn on_check(&self, check: impl Fn(&str, Command) + Send + Sync + 'static) {
        self.pushes.on_check(Box::new(check));
    }

    /// Requests that wait for replies.
    pub(crate) fn waiting(&self) -> &Arc<Waiting> {
        self.pushes.waiting()
    }

    /// Changes what the heartbeat says.
    pub(crate) fn identify(&self, change: impl FnOnce(&mut HeartbeatData)) {
        change(&mut self.identity.lock().expect("no holder panics"));
    }

    /// Calls a server and returns its answer when that says success.
    pub(crate) async fn call(
        &self,
        addr: &str,
        request: Command,
        timeout: Duration,
    ) -> Result<Command, Error> {
        let response = self.remoting.call(addr, request, timeout).await?;
        if response.response_code() == ResponseCode::SUCCESS {
            Ok(response)
        } else {
            Err(refused(addr, response))
        }
    }

    /// Calls a server and returns whatever it answers.
    pub(crate) async fn call_any(
        &self,
        addr: &str,
        request: Command,
        timeout: Duration,
    ) -> Result<Command, Error> {
        Ok(self.remoting.call(addr, request, timeout).await?)
    }

    /// Sends without an answer.
    pub(crate) async fn send_oneway(&self, addr: &str, request: Command) -> Result<(), Error> {
        Ok(self.remoting.send_oneway(addr, request).await?)
    }

    /// The topic's route, from the cache or from a name server.
    pub(crate) async fn route(&self, topic: &str) -> Result<Arc<Route>, Error> {
        if let Some(route) = self.cached_route(topic) {
            return Ok(route);
        }
        self.fetch_route(topic).await
    }

    /// The route that messages to `topic` take when nobody created it: that of the template topic, renamed, whose
    /// brokers create the topic at the first message.
    pub(crate) async fn route_or_template(
        &self,
        topic: &str,
        template: &str,
        queues_max: i32,
    ) -> Result<Arc<Route>, Error> {
        let missing = match self.route(topic).await {
            Err(missing @ Error::NoRoute { .. }) => missing,
            other => return other,
        };
        let Ok(route) = self.fetch_route_data(template).await else {
            return Err(missing);
        };
        let mut data = route;
        for queues in &mut data.queue_datas {
            queues.read_queue_nums = queues.read_queue_nums.min(queues_max);
            queues.write_queue_nums = queues.write_queue_nums.min(queues_max);
        }
        // Kept out of the cache: the next send asks for the topic's own route, which exists by then.
        let route = Arc::new(Route::new(topic, &data));
        self.greet_brokers_of(&route).await;
        Ok(route)
    }

    pub(crate) fn cached_route(&self, topic: &str) -> Option<Arc<Route>> {
        self.routes
            .read()
            .expect("no holder panics")
            .get(topic)
            .cloned()
    }

    /// Asks the name servers in turn, and says to new brokers at once who this client is.
    pub(crate) async fn fetch_route(&self, topic: &str) -> Result<Arc<Route>, Error> {
        let data = self.fetch_route_data(topic).await?;
        let route = Arc::new(Route::new(topic, &data));
        let old = self
            .routes
            .write()
            .expect("no holder panics")
            .insert(topic.to_owned(), Arc::clone(&route));
        if old.as_ref() != Some(&route) {
            tracing::debug!(topic, queues = route.readable.len(), "route changed");
        }
        self.greet_brokers_of(&route).await;
        Ok(route)
    }

    /// Takes the brokers of a route in, and says to those that are new who this client is.
    async fn greet_brokers_of(&self, route: &Route) {
        let before = self.broker_addresses();
        self.learn_brokers(route);
        for addr in self.broker_addresses().difference(&before) {
            self.heartbeat_one(addr).await;
        }
    }

    async fn fetch_route_data(&self, topic: &str) -> Result<TopicRouteData, Error> {
        if light::is_light(topic) {
            let request = Command::request(RequestCode::GET_BROKER_CLUSTER_INFO, &());
            let cluster = self.ask_nameservers(topic, request).await?;
            return Ok(route::of_light_queue(cluster));
        }
        let header = GetRouteInfoRequest {
            topic: topic.to_owned(),
            accept_standard_json_only: Some(true),
        };
        let request = Command::request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &header);
        self.ask_nameservers(topic, request).await
    }

    /// The first name server's answer to a request that is about `topic`.
    async fn ask_nameservers<T: serde::de::DeserializeOwned>(
        &self,
        topic: &str,
        request: Command,
    ) -> Result<T, Error> {
        let mut last = None;
        for addr in &self.nameservers {
            match self.call(addr, request.clone(), CALL_TIMEOUT).await {
                Ok(response) => {
                    return json::decode(&response.body).map_err(|e| Error::Malformed {
                        addr: addr.clone(),
                        reason: format!("route of {topic}: {e}"),
                    });
                }
                Err(Error::Refused { code, .. }) if code == ResponseCode::TOPIC_NOT_EXIST => {
                    last = Some(Error::NoRoute {
                        topic: topic.to_owned(),
                        nameservers: self.nameservers.join(";"),
                    });
                }
                Err(error) => last = last.or(Some(error)),
            }
        }
        Err(last.expect("there is at least one name server"))
    }

    /// The address of a broker by name. With `any`, a slave stands in when `id` is not there.
    pub(crate) fn broker_address(
        &self,
        broker_name: &str,
        id: i64,
        any: bool,
    ) -> Result<String, Error> {
        let brokers = self.brokers.read().expect("no holder panics");
        let addresses = brokers.get(broker_name);
        let exact = addresses.and_then(|addresses| addresses.get(&id));
        let found = exact.or_else(|| addresses.filter(|_| any)?.values().next());
        found
            .cloned()
            .ok_or_else(|| Error::UnknownBroker(broker_name.to_owned()))
    }

    /// The master's address of the broker that holds `queue`.
    pub(crate) fn master_of(&self, queue: &MessageQueue) -> Result<String, Error> {
        self.broker_address(&queue.broker_name, MASTER_ID, false)
    }

    /// Says to every broker who this client is. Failures are the next heartbeat's business.
    pub(crate) async fn heartbeat(&self) {
        for addr in self.broker_addresses() {
            self.heartbeat_one(&addr).await;
        }
    }

    /// Says to brokers to which a connection was made who is behind it: one that was started again knows nobody, and pushes nothing to a
    /// client that it does not know.
    async fn greet_reconnected(&self) {
        let connected = self.pushes.take_connected();
        for addr in self.broker_addresses().intersection(&connected) {
            self.heartbeat_one(addr).await;
        }
    }

    /// Says to a broker that refused a request at that time who this client is, unless it has heard so since. Whoever comes meanwhile waits
    /// for the same heartbeat.
    pub(crate) async fn greet_again(&self, addr: &str, refused: Instant) {
        let mut greeted = self.greeted.lock().await;
        if greeted.get(addr).is_none_or(|at| *at < refused) {
            self.heartbeat_one(addr).await;
            greeted.insert(addr.to_owned(), Instant::now());
        }
    }

    async fn heartbeat_one(&self, addr: &str) {
        let identity = self.identity.lock().expect("no holder panics").clone();
        if identity.producer_data_set.is_empty() && identity.consumer_data_set.is_empty() {
            return;
        }
        let body = json::encode(&identity);
        let request = Command::request(RequestCode::HEART_BEAT, &()).with_body(body);
        match self.call(addr, request, CALL_TIMEOUT).await {
            Ok(_) => self.pushes.heard(addr),
            Err(error) => tracing::warn!(addr, %error, "heartbeat not taken"),
        }
    }

    async fn refresh_routes(&self) {
        let topics: Vec<String> = {
            let routes = self.routes.read().expect("no holder panics");
            routes.keys().cloned().collect()
        };
        for topic in topics {
            if let Err(error) = self.fetch_route(&topic).await {
                tracing::debug!(topic, %error, "route not refreshed, the old one stays");
            }
        }
    }

    fn learn_brokers(&self, route: &Route) {
        let mut brokers = self.brokers.write().expect("no holder panics");
        for (name, addresses) in &route.brokers {
            brokers.insert(name.clone(), addresses.clone());
        }
    }

    fn broker_addresses(&self) -> BTreeSet<String> {
        let brokers = self.brokers.read().expect("no holder panics");
        let addresses = brokers.values().flat_map(BTreeMap::values);
        addresses.cloned().collect()
    }
}

pub(crate) fn refused(addr: &str, response: Command) -> Error {
    Error::Refused {
        addr: addr.to_owned(),
        code: response.response_code(),
        remark: response.remark.unwrap_or_default(),
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}

fn parse_addresses(list: &str) -> Result<Vec<String>, Error> {
    let addresses: Vec<String> = list
        .split(';')
        .map(str::trim)
        .filter(|addr| !addr.is_empty())
        .map(str::to_owned)
        .collect();
    if let Some(bad) = addresses.iter().find(|addr| !addr.contains(':')) {
        return Err(Error::Invalid(format!(
            "name server {bad:?} lacks a port; write host:port, several separated by ';'"
        )));
    }
    if addresses.is_empty() {
        return Err(Error::Invalid("no name server is given".to_owned()));
    }
    Ok(addresses)
}

/// Unique among the members of a group: host, process, and a count and time within the process.
fn new_client_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos() % 1_000_000_000_000);
    format!("{}@{}#{nanos}#{count}", local_ip(), std::process::id())
}

/// The address that traffic to elsewhere would leave from; nothing is sent to find it out.
pub(crate) fn local_ip() -> std::net::IpAddr {
    std::net::UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| {
            socket.connect("192.0.2.1:9")?;
            socket.local_addr()
        })
        .map_or(std::net::IpAddr::from([127, 0, 0, 1]), |addr| addr.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_separated_by_semicolons() {
        assert_eq!(parse_addresses("a:1; b:2;").unwrap(), ["a:1", "b:2"]);
        assert!(parse_addresses("a").is_err());
        assert!(parse_addresses(";").is_err());
    }

    #[test]
    fn client_ids_differ_within_a_process() {
        assert_ne!(new_client_id(), new_client_id());
    }
}
