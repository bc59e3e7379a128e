//! What name servers are asked: clusters, routes, topic lists, key–value configuration.

use protocol::body::{ClusterInfo, KvTable, TopicList, TopicRouteData};
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::headers::{
    DeleteKVConfigRequest, DeleteTopicFromNamesrvRequest, GetRouteInfoRequest,
    GetTopicsByClusterRequest, PutKVConfigRequest,
};

use crate::{Admin, Error, body_of, succeeded};

/// Namespace of the key–value configuration that holds the queues of ordered topics.
pub(crate) const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

impl Admin {
    /// All brokers by name, and the clusters they form.
    pub async fn cluster_info(&self) -> Result<ClusterInfo, Error> {
        let (addr, answer) = self
            .ask_nameserver(Command::request(RequestCode::GET_BROKER_CLUSTER_INFO, &()))
            .await?;
        body_of(&addr, &answer)
    }

    /// Where a topic is served.
    pub async fn route(&self, topic: &str) -> Result<TopicRouteData, Error> {
        let header = GetRouteInfoRequest {
            topic: topic.to_owned(),
            accept_standard_json_only: Some(true),
            ..Default::default()
        };
        let request = Command::request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &header);
        let (addr, answer) = self.ask_nameserver(request).await?;
        body_of(&addr, &answer)
    }

    /// All topics.
    pub async fn topics(&self) -> Result<TopicList, Error> {
        let request = Command::request(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &());
        let (addr, answer) = self.ask_nameserver(request).await?;
        body_of(&addr, &answer)
    }

    /// The topics of one cluster.
    pub async fn topics_of_cluster(&self, cluster: &str) -> Result<TopicList, Error> {
        let header = GetTopicsByClusterRequest {
            cluster: cluster.to_owned(),
        };
        let request = Command::request(RequestCode::GET_TOPICS_BY_CLUSTER, &header);
        let (addr, answer) = self.ask_nameserver(request).await?;
        body_of(&addr, &answer)
    }

    /// The addresses of a cluster's masters, sorted by broker name.
    ///
    /// # Errors
    /// [`Error::UnknownCluster`] when the name server knows no such cluster.
    pub async fn masters_of(&self, cluster: &str) -> Result<Vec<(String, String)>, Error> {
        let info = self.cluster_info().await?;
        let Some(names) = info.cluster_addr_table.get(cluster) else {
            let known = info.cluster_addr_table.into_keys().collect();
            return Err(Error::UnknownCluster {
                cluster: cluster.to_owned(),
                known,
            });
        };
        let mut masters: Vec<(String, String)> = names
            .iter()
            .filter_map(|name| {
                let addr = info.broker_addr_table.get(name)?.broker_addrs.get(&0)?;
                Some((name.clone(), addr.clone()))
            })
            .collect();
        masters.sort();
        Ok(masters)
    }

    /// Sets a value of the key–value configuration on every name server, since they never talk to each other.
    pub async fn put_kv(&self, namespace: &str, key: &str, value: &str) -> Result<(), Error> {
        let header = PutKVConfigRequest {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        self.tell_nameservers(&Command::request(RequestCode::PUT_KV_CONFIG, &header))
            .await
    }

    /// Removes a value of the key–value configuration from every name server.
    pub async fn delete_kv(&self, namespace: &str, key: &str) -> Result<(), Error> {
        let header = DeleteKVConfigRequest {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
        };
        self.tell_nameservers(&Command::request(RequestCode::DELETE_KV_CONFIG, &header))
            .await
    }

    /// Makes every name server forget a topic, on one cluster's brokers or on all.
    pub async fn delete_topic_in_nameservers(
        &self,
        topic: &str,
        cluster: Option<&str>,
    ) -> Result<(), Error> {
        let header = DeleteTopicFromNamesrvRequest {
            topic: topic.to_owned(),
            cluster_name: cluster.map(str::to_owned),
            ..Default::default()
        };
        self.tell_nameservers(&Command::request(
            RequestCode::DELETE_TOPIC_IN_NAMESRV,
            &header,
        ))
        .await
    }

    /// All values of one namespace of the key–value configuration.
    pub async fn kv_namespace(&self, namespace: &str) -> Result<KvTable, Error> {
        let header = protocol::headers::GetKVListByNamespaceRequest {
            namespace: namespace.to_owned(),
        };
        let request = Command::request(RequestCode::GET_KVLIST_BY_NAMESPACE, &header);
        let (addr, answer) = self.ask_nameserver(request).await?;
        body_of(&addr, &answer)
    }

    /// Asks the first name server that answers.
    pub(crate) async fn ask_nameserver(
        &self,
        request: Command,
    ) -> Result<(String, Command), Error> {
        let mut tried = Vec::new();
        for addr in &self.nameservers {
            match self.ask(addr, request.clone()).await {
                Ok(answer) => return Ok((addr.clone(), succeeded(addr, answer)?)),
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(Error::NoNameServer { tried })
    }

    /// Tells every name server; the first failure is the result, after all were told.
    async fn tell_nameservers(&self, request: &Command) -> Result<(), Error> {
        if self.nameservers.is_empty() {
            return Err(Error::NoNameServer { tried: Vec::new() });
        }
        let mut result = Ok(());
        for addr in &self.nameservers {
            let told = self.ask_ok(addr, request.clone()).await;
            result = result.and(told.map(drop));
        }
        result
    }
}
