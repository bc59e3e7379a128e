//! The keys of a name server's configuration file, named as RocketMQ names them.

configuration::keys! {
    /// Configuration of a name server.
    pub struct Config {
        /// Port that brokers and clients connect to; 0 takes a free one.
        listen_port: u16 = 9876, "listenPort";
        /// IP address to listen on.
        bind_address: String = "0.0.0.0".to_owned(), "bindAddress";
        /// File of the key-value configuration.
        kv_config_path: String = home("namesrv/kvConfig.json"), "kvConfigPath";
        /// File that changes made at run time are written to; the one given with `-c`, when one is.
        config_store_path: String = home("namesrv/namesrv.properties"), "configStorePath";
        /// Whether routes carry the queues of ordered topics.
        order_message_enable: bool = false, "orderMessageEnable";
        /// Whether brokers are told the queues of ordered topics when they register.
        return_order_topic_config_to_broker: bool = true, "returnOrderTopicConfigToBroker";
        /// How often silent brokers are looked for.
        scan_not_active_broker_interval: i64 = 5_000, "scanNotActiveBrokerInterval", unit "ms", within 10..=3_600_000;
        /// Whether a slave stands in for an absent master in routes, for reading.
        support_acting_master: bool = false, "supportActingMaster";
        /// Whether clients may list all topics.
        enable_all_topic_list: bool = true, "enableAllTopicList";
        /// Whether clients may list topics by cluster and unit.
        enable_topic_list: bool = true, "enableTopicList";
        /// Whether brokers are told when the lowest id of their group changes.
        notify_min_broker_id_changed: bool = false, "notifyMinBrokerIdChanged";
        /// Whether routes are refused for a while after the start, until all brokers have registered.
        need_wait_for_service: bool = false, "needWaitForService";
        /// For how long.
        wait_seconds_for_service: i64 = 45, "waitSecondsForService", unit "s", within 0..=86_400;
        /// Whether topics that a broker no longer registers are forgotten. Only for brokers that register single topics by
        /// `enableSingleTopicRegister`; others would lose topics.
        delete_topic_with_broker_registration: bool = false, "deleteTopicWithBrokerRegistration";
        /// Which connections are taken: disabled (plaintext), permissive (plaintext and TLS on the same port), enforcing (TLS).
        tls_server_mode: String = "permissive".to_owned(), "tls.server.mode";
        /// File of the certificate chain (PEM).
        tls_server_cert_path: String = String::new(), "tls.server.certPath";
        /// File of the private key (PEM, not encrypted).
        tls_server_key_path: String = String::new(), "tls.server.keyPath";
        /// Whether a certificate is made at the start when none is given. Clients cannot check it.
        tls_test_mode_enable: bool = true, "tls.test.mode.enable";
        /// Keys that cannot be changed at run time, separated by semicolons.
        config_black_list: String = "configBlackList;configStorePath;kvConfigPath".to_owned(), "configBlackList";
    }
}

/// A path in the home directory, where Java keeps these files.
fn home(path: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_else(|_| ".".to_owned());
    format!("{home}/{path}")
}
