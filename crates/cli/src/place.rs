//! Which brokers a command is about: one by its address, or the masters of a cluster.

use crate::{Failure, Session};

/// Which brokers are meant.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Where {
    /// One broker
    #[arg(short = 'b', long = "brokerAddr", value_name = "ADDR")]
    broker: Option<String>,
    /// The masters of a cluster
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER")]
    cluster: Option<String>,
}

impl Where {
    /// Addresses, each with the words that mqadmin puts above what it prints of it.
    pub(crate) async fn brokers(
        &self,
        session: &Session,
    ) -> Result<Vec<(String, String)>, Failure> {
        if let Some(broker) = self.broker.as_deref().map(str::trim) {
            return Ok(vec![(broker.to_owned(), broker.to_owned())]);
        }
        let cluster = self.cluster.as_deref().unwrap_or_default().trim();
        let masters = session.admin.masters_of(cluster).await?.into_iter();
        Ok(masters
            .map(|(_, addr)| (addr.clone(), format!("Master: {addr}")))
            .collect())
    }
}
