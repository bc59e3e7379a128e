//! A broker that forgets its clients: what they do so that it knows them again before the next heartbeat is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{ConsumeResult, Message, Producer, PushConsumer, StartFrom};
use protocol::body::{
    BrokerData, GetConsumerListByGroupResponseBody, HeartbeatData, QueueData, TopicRouteData,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    GetMinOffsetResponse, GetRouteInfoRequest, PullMessageResponse, SendMessageResponse,
};
use protocol::json;
use protocol::reply::ReplyHead;
use remoting::{Connection, Gate, HeldFailure, Replies, Request, Server, ServerConfig, Service};
use tokio::sync::watch;

/// A third of the time between two heartbeats: what happens within it is not owed to the next one.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How long this broker holds a pull.
const HOLD: Duration = Duration::from_millis(20);
const TOPIC: &str = "T";

/// A name server and broker in one, with one topic of one queue, in which nothing ever lies.
#[derive(Default)]
struct Forgetful {
    /// The connections whose heartbeat it has heard and not forgotten.
    known: Mutex<BTreeSet<u64>>,
    /// The client behind the last heartbeat.
    client_id: Mutex<String>,
    addr: Mutex<String>,
    heartbeats: AtomicUsize,
    /// Pulls of clients that it knows.
    pulls: AtomicUsize,
}

impl Forgetful {
    fn start() -> (Arc<Forgetful>, Server) {
        let broker = Arc::new(Forgetful::default());
        let addr = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(addr, ServerConfig::default(), broker.clone()).unwrap();
        *broker.addr.lock().unwrap() = server.local_addr().to_string();
        (broker, server)
    }

    fn addr(&self) -> String {
        self.addr.lock().unwrap().clone()
    }

    fn forget(&self) {
        self.known.lock().unwrap().clear();
    }

    fn knows(&self, connection: &Connection) -> bool {
        self.known.lock().unwrap().contains(&connection.id())
    }

    fn route(&self) -> TopicRouteData {
        TopicRouteData {
            broker_datas: vec![BrokerData {
                broker_name: "forgetful".to_owned(),
                broker_addrs: BTreeMap::from([(0, self.addr())]),
                ..BrokerData::default()
            }],
            queue_datas: vec![QueueData {
                broker_name: "forgetful".to_owned(),
                perm: 6,
                read_queue_nums: 1,
                write_queue_nums: 1,
                ..QueueData::default()
            }],
            ..TopicRouteData::default()
        }
    }

    fn one(&self, connection: &Arc<Connection>, request: &Request<'_>, replies: &mut Replies) {
        let head = request.head();
        let ok = ResponseCode::SUCCESS;
        match request.code() {
            RequestCode::GET_ROUTEINFO_BY_TOPIC => {
                let header: GetRouteInfoRequest = request.read().unwrap();
                if header.topic == TOPIC {
                    replies.reply(head, ok, None, &(), &[&json::encode(&self.route())]);
                } else {
                    replies.refuse(head, ResponseCode::TOPIC_NOT_EXIST, "no such topic");
                }
            }
            RequestCode::HEART_BEAT => {
                let heartbeat: HeartbeatData = json::decode(request.body).unwrap();
                *self.client_id.lock().unwrap() = heartbeat.client_id;
                self.known.lock().unwrap().insert(connection.id());
                self.heartbeats.fetch_add(1, Ordering::SeqCst);
                replies.reply(head, ok, None, &(), &[]);
            }
            RequestCode::GET_CONSUMER_LIST_BY_GROUP => {
                let members = GetConsumerListByGroupResponseBody {
                    consumer_id_list: vec![self.client_id.lock().unwrap().clone()],
                };
                replies.reply(head, ok, None, &(), &[&json::encode(&members)]);
            }
            RequestCode::QUERY_CONSUMER_OFFSET => {
                replies.refuse(head, ResponseCode::QUERY_NOT_FOUND, "never committed");
            }
            RequestCode::GET_MIN_OFFSET => {
                replies.reply(head, ok, None, &GetMinOffsetResponse { offset: 0 }, &[]);
            }
            RequestCode::PULL_MESSAGE if self.knows(connection) => {
                self.pulls.fetch_add(1, Ordering::SeqCst);
                let connection = Arc::clone(connection);
                tokio::spawn(async move {
                    tokio::time::sleep(HOLD).await;
                    let nothing = PullMessageResponse::default();
                    let code = ResponseCode::PULL_NOT_FOUND;
                    // The client may be gone by then.
                    let _ = connection.reply(head, code, None, &nothing, &[]);
                });
            }
            RequestCode::PULL_MESSAGE => {
                let code = ResponseCode::SUBSCRIPTION_NOT_EXIST;
                replies.refuse(head, code, "the consumer's group info not exist");
            }
            RequestCode::SEND_MESSAGE_V2 => {
                let sent = SendMessageResponse {
                    msg_id: "0".to_owned(),
                    ..SendMessageResponse::default()
                };
                replies.reply(head, ok, None, &sent, &[]);
            }
            _ => replies.reply(head, ok, None, &(), &[]),
        }
    }
}

impl Service for Forgetful {
    fn serve(&self, connection: &Arc<Connection>, requests: &[Request<'_>], replies: &mut Replies) {
        for request in requests {
            self.one(connection, request, replies);
        }
    }

    fn refuse_held(&self, _: HeldFailure, _: ReplyHead, _: &Command, _: &mut Replies) {
        unreachable!("nothing is held");
    }

    fn gate(&self) -> Option<watch::Receiver<Gate>> {
        None
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.known.lock().unwrap().remove(&connection.id());
    }
}

/// Waits until the number is above what it was.
async fn rises(what: &str, number: &AtomicUsize, above: usize) {
    let risen = async {
        while number.load(Ordering::SeqCst) <= above {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(AT_ONCE, risen).await;
    assert!(waited.is_ok(), "{what} did not happen within {AT_ONCE:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_group_is_forgotten_says_at_once_who_it_is() {
    // Up to 50 s went by after a broker was started again until push consumers got messages.
    let (broker, _server) = Forgetful::start();
    let consumer = PushConsumer::builder("consumers", broker.addr())
        .subscribe(TOPIC, "*")
        .start_from(StartFrom::Oldest)
        .concurrently(|_| std::future::ready(ConsumeResult::Success))
        .start()
        .await
        .unwrap();
    rises("the first pull", &broker.pulls, 0).await;
    broker.forget();
    let before = broker.pulls.load(Ordering::SeqCst);
    rises("a pull of a known client", &broker.pulls, before).await;
    consumer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_says_on_a_connection_made_anew_who_it_is() {
    // Until then the broker can neither ask it how a transaction ended nor pass a reply to it.
    let (broker, server) = Forgetful::start();
    let producer = Producer::builder("producers", broker.addr())
        .start()
        .unwrap();
    producer.send(Message::new(TOPIC, "one")).await.unwrap();
    rises("the first heartbeat", &broker.heartbeats, 0).await;
    for connection in server.connections() {
        connection.close("the broker is started again");
    }
    while server.connection_count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = broker.heartbeats.load(Ordering::SeqCst);
    producer.send(Message::new(TOPIC, "two")).await.unwrap();
    rises("a heartbeat", &broker.heartbeats, before).await;
    producer.shutdown().await;
}
