//! The keys of a broker's configuration, under the names that RocketMQ's files use.

configuration::keys! {
    /// Everything that a broker can be told. Keys of `BrokerConfig` first, then those of `MessageStoreConfig`.
    pub struct BrokerKeys {
        /// Name of the broker; the brokers of one name are replicas of each other.
        broker_name: String = String::from("broker-a"), "brokerName";
        /// Name of the cluster. A topic of the same name lists its brokers.
        broker_cluster_name: String = String::from("DefaultCluster"), "brokerClusterName";
        /// 0 is the master, larger numbers are its replicas.
        broker_id: i64 = 0, "brokerId", within 0..=i64::MAX;
        /// Addresses of the name servers, separated by semicolons.
        namesrv_addr: String = String::new(), "namesrvAddr";
        /// Port for clients; 0 takes a free one. Two less is the VIP port.
        listen_port: u16 = 10911, "listenPort";
        /// Address to listen on.
        bind_address: String = String::from("0.0.0.0"), "bindAddress";
        /// Address that clients are told; found by itself when empty.
        broker_ip1: String = String::new(), "brokerIP1";
        /// Address that replicas are told; that of clients when empty.
        broker_ip2: String = String::new(), "brokerIP2";
        /// What clients may do with this broker: 4 read, 2 write, added.
        broker_permission: i32 = 6, "brokerPermission", within 0..=7;
        /// Queues of a topic that is created by its first message, at most.
        default_topic_queue_nums: i32 = 8, "defaultTopicQueueNums", within 1..=65535;
        /// Whether the first message to an unknown topic creates it.
        auto_create_topic_enable: bool = true, "autoCreateTopicEnable";
        /// Whether the cluster's topic can be read and written.
        cluster_topic_enable: bool = true, "clusterTopicEnable";
        /// Whether the broker's topic can be read and written.
        broker_topic_enable: bool = true, "brokerTopicEnable";
        /// Whether an unknown consumer group is created when it is first seen.
        auto_create_subscription_group: bool = true, "autoCreateSubscriptionGroup";
        /// Name of the topic for message traces.
        msg_trace_topic_name: String = String::from("RMQ_SYS_TRACE_TOPIC"), "msgTraceTopicName";
        /// Whether the topic for message traces exists.
        trace_topic_enable: bool = false, "traceTopicEnable";
        /// How often consumer offsets are written to their file.
        flush_consumer_offset_interval: u64 = 5000, "flushConsumerOffsetInterval", unit "ms", within 1..=3600000;
        /// Whether a pull that finds nothing waits as long as its client asks.
        long_polling_enable: bool = true, "longPollingEnable";
        /// How long it waits otherwise.
        short_polling_time_ms: u64 = 1000, "shortPollingTimeMills", unit "ms";
        /// Whether consumers are told at once that their group changed.
        notify_consumer_ids_changed_enable: bool = true, "notifyConsumerIdsChangedEnable";
        /// How long a queue that is consumed in order belongs to a client that does not renew its lock. Clients renew every 20 s. When its connection
        /// closes it has an eighth of that for a sign of life.
        rebalance_lock_max_live_time: u64 = 60000, "rocketmq.broker.rebalance.lockMaxLiveTime", unit "ms", within 1000..=3600000;
        /// Whether the broker remembers how far the clients of broadcasting groups are, for those that change between it and a proxy.
        enable_broadcast_offset_store: bool = true, "enableBroadcastOffsetStore";
        /// How long that is remembered of a client that is not connected.
        broadcast_offset_expire_second: u64 = 120, "broadcastOffsetExpireSecond", unit "s";
        /// How long it is remembered of one that is.
        broadcast_offset_expire_max_second: u64 = 300, "broadcastOffsetExpireMaxSecond", unit "s";
        /// Bytes that a consumer group may read in five seconds that were not in memory.
        cg_cold_read_threshold: u64 = 3145728, "cgColdReadThreshold", unit "bytes";
        /// The same of all groups together.
        global_cold_read_threshold: u64 = 104857600, "globalColdReadThreshold", unit "bytes";
        /// Whether thresholds of groups follow the load.
        cold_ctr_strategy_enable: bool = false, "coldCtrStrategyEnable";
        /// Whether they follow it by how far, how long and how fast all reads together miss their aim; otherwise by whether they are over their limit.
        use_pid_cold_ctr_strategy: bool = true, "usePIDColdCtrStrategy";
        /// Region that every message bears in its properties.
        region_id: String = String::from("DefaultRegion"), "regionId";
        /// Whether clients are told to trace their messages.
        trace_on: bool = true, "traceOn";
        /// How long a name server has for its answer.
        register_broker_timeout_mills: u64 = 24000, "registerBrokerTimeoutMills", unit "ms";
        /// How often the broker registers.
        register_name_server_period: u64 = 30000, "registerNameServerPeriod", unit "ms";
        /// Whether pulls of lite pull consumers are served.
        lite_pull_message_enable: bool = true, "litePullMessageEnable";
        /// Whether replies are stored in the cluster's reply topic as well.
        store_reply_message_enable: bool = true, "storeReplyMessageEnable";
        /// Whether consumers may filter by expressions (SQL92). Java's default is false.
        enable_property_filter: bool = true, "enablePropertyFilter";
        /// Whether an expression that a group subscribes to its retry topic with gives way to the one of the topic that a message was sent to first.
        filter_support_retry: bool = false, "filterSupportRetry";
        /// How long the filter of a group that nobody is connected for is kept.
        filter_data_clean_time_span: u64 = 86400000, "filterDataCleanTimeSpan", unit "ms";
        /// Whether an operator's reset of offsets is kept here and handed out with the next pull.
        use_server_side_reset_offset: bool = true, "useServerSideResetOffset";
        /// Pops of one group that may wait for one queue, or for all queues of one topic.
        pop_polling_size: u64 = 1024, "popPollingSize", within 0..=1000000;
        /// Groups and topics for which pops may wait.
        pop_polling_map_size: u64 = 100000, "popPollingMapSize", within 0..=10000000;
        /// Pops that may wait, in all.
        max_pop_polling_size: u64 = 100000, "maxPopPollingSize", within 0..=1000000;
        /// How many of a hundred pops look into the group's retry topic before the topic itself.
        pop_from_retry_probability: u32 = 20, "popFromRetryProbability", unit "%", within 0..=100;
        /// Whether retry topics of pop consumption are named `%RETRY%group+topic` instead of `%RETRY%group_topic`.
        enable_retry_topic_v2: bool = false, "enableRetryTopicV2";
        /// Whether, with `enableRetryTopicV2`, pops look into retry topics of the other name too.
        retrieve_message_from_pop_retry_topic_v1: bool = true, "retrieveMessageFromPopRetryTopicV1";
        /// Whether popped messages of a retry topic bear its name instead of that of their topic.
        pop_response_return_actual_retry_topic: bool = false, "popResponseReturnActualRetryTopic";
        /// Whether a group that begins with new messages takes all of a queue whose first message is still in memory.
        init_pop_offset_by_check_msg_in_mem: bool = true, "initPopOffsetByCheckMsgInMem";
        /// Whether a group gets no more of a queue while it has too many of its messages in flight.
        enable_pop_message_threshold: bool = false, "enablePopMessageThreshold";
        /// How many are too many.
        pop_inflight_message_threshold: u64 = 10000, "popInflightMessageThreshold";
        /// Messages of all groups that may be popped and not acknowledged; beyond it pops are answered POLLING_FULL. A million take some 128 MiB.
        pop_in_flight_max: u64 = 1000000, "popInFlightMax", within 1..=100000000;
        /// Queues of the topic that a Java broker keeps its pop checkpoints in. It is created for one that takes the directory over.
        revive_queue_num: i32 = 8, "reviveQueueNum", within 1..=1024;
        /// Whether the broker shares queues among the members of a group that ask it to.
        server_load_balancer_enable: bool = true, "serverLoadBalancerEnable";
        /// How groups take messages when nothing is set for them: PULL or POP.
        default_message_request_mode: String = String::from("PULL"), "defaultMessageRequestMode";
        /// How many other members' queues a member pops besides its own when nothing is set for its group; -1 pops all queues.
        default_pop_share_queue_num: i32 = -1, "defaultPopShareQueueNum", within -1..=1000000;
        /// A connection without a byte for this long is closed.
        server_channel_max_idle_time_seconds: u64 = 120, "serverChannelMaxIdleTimeSeconds", unit "s", within 1..=86400;
        /// Whether halves of transactions are refused with code 16.
        reject_transaction_message: bool = false, "rejectTransactionMessage";
        /// How long a producer is not asked how a transaction ended; a message may ask for more (`CHECK_IMMUNITY_TIME_IN_SECONDS`).
        transaction_time_out: u64 = 6000, "transactionTimeOut", unit "ms", within 1..=31536000000;
        /// How often a producer is asked, at most; then the message goes to `TRANS_CHECK_MAX_TIME_TOPIC`.
        transaction_check_max: u32 = 15, "transactionCheckMax", within 1..=1000000;
        /// Time between two questions about one transaction.
        transaction_check_interval: u64 = 30000, "transactionCheckInterval", unit "ms", within 10..=31536000000;
        /// A client that is silent for this long is forgotten.
        channel_expired_timeout: u64 = 120000, "channelExpiredTimeout", unit "ms";
        /// Memory that all connections of clients may hold together: requests that are not complete, answers that are not
        /// read or wait for the disk, pulls that wait. Above half of it large frames wait, large answers are refused,
        /// and connections without progress are closed; above three quarters sends and pulls are refused with code 2.
        connection_memory_bytes: u64 = 268435456, "connectionMemoryBytes", unit "bytes", within 67108864..=1099511627776;
        /// A send that waited longer than this for its turn is refused with code 2.
        wait_time_mills_in_send_queue: u64 = 200, "waitTimeMillsInSendQueue", unit "ms", within 1..=3600000;
        /// Which connections are taken: disabled (plaintext), permissive (plaintext and TLS on the same port), enforcing (TLS).
        tls_server_mode: String = String::from("permissive"), "tls.server.mode";
        /// File of the certificate chain (PEM).
        tls_server_cert_path: String = String::new(), "tls.server.certPath";
        /// File of the private key (PEM, not encrypted).
        tls_server_key_path: String = String::new(), "tls.server.keyPath";
        /// Whether a certificate is made at the start when none is given. Clients cannot check it.
        tls_test_mode_enable: bool = true, "tls.test.mode.enable";

        /// Directory of everything that is kept.
        store_path_root_dir: String = String::from("~/store"), "storePathRootDir";
        /// Directory of the commit log; `commitlog` below the root when empty.
        store_path_commit_log: String = String::new(), "storePathCommitLog";
        /// Size of a commit log segment.
        mapped_file_size_commit_log: u64 = 1073741824, "mappedFileSizeCommitLog", unit "bytes", within 4096..=1099511627776;
        /// How much of the synced commit log stays in the page cache while no consumer reads further back; 0 leaves it to the
        /// kernel.
        commit_log_page_cache_bytes: u64 = 268435456, "commitLogPageCacheBytes", unit "bytes";
        /// Whether consumer groups that read much that is not in memory have to wait. What counts as much: cgColdReadThreshold, globalColdReadThreshold.
        cold_data_flow_control_enable: bool = false, "coldDataFlowControlEnable";
        /// Whether the kernel reads the commit log ahead of what is asked for.
        data_read_ahead_enable: bool = true, "dataReadAheadEnable";
        /// Size of a consume queue file; rounded down to whole entries of 20 bytes.
        mapped_file_size_consume_queue: u64 = 6000000, "mappedFileSizeConsumeQueue", unit "bytes", within 20..=1099511627776;
        /// Size of a consume queue file of a topic with queue.type=BatchCQ; rounded down to whole units of 46 bytes.
        mapper_file_size_batch_consume_queue: u64 = 13800000, "mapperFileSizeBatchConsumeQueue", unit "bytes", within 46..=1099511627776;
        /// Queues that have consume queue files of their own, in Java's format, at most. With more, a store that all queues share takes over; when
        /// at most half as many are left at a start, they get files again. Before a Java broker opens the directory, start once with the largest
        /// value, or let it make the queues again from the log.
        max_file_queue_num: u64 = 20000, "maxFileQueueNum", unit "queues", within 0..=2147483647;
        /// When a send is answered: SYNC_FLUSH after the disk has the message (survives power loss), ASYNC_FLUSH after the
        /// kernel has it (survives `kill -9`). Java's default is ASYNC_FLUSH.
        flush_disk_type: String = String::from("SYNC_FLUSH"), "flushDiskType";
        /// How often the log is synced under ASYNC_FLUSH.
        flush_interval_commit_log: u64 = 500, "flushIntervalCommitLog", unit "ms", within 1..=3600000;
        /// How long a send waits for the disk under SYNC_FLUSH before it is answered FLUSH_DISK_TIMEOUT.
        sync_flush_timeout: u64 = 5000, "syncFlushTimeout", unit "ms", within 1..=3600000;
        /// Hours of the day in which expired segments are deleted, separated by semicolons.
        delete_when: String = String::from("04"), "deleteWhen";
        /// How long messages are kept.
        file_reserved_time: u64 = 72, "fileReservedTime", unit "h";
        /// How often expired segments and the disk are looked at.
        clean_resource_interval: u64 = 10000, "cleanResourceInterval", unit "ms", within 10..=3600000;
        /// Used part of the disk above which expired segments are deleted at any hour.
        disk_max_used_space_ratio: u32 = 75, "diskMaxUsedSpaceRatio", unit "%", within 1..=100;
        /// Used part of the disk above which the oldest segments are deleted even when not expired.
        disk_space_clean_forcibly_ratio: u32 = 85, "diskSpaceCleanForciblyRatio", unit "%", within 1..=100;
        /// Used part of the disk above which sends are refused.
        disk_space_warning_level_ratio: u32 = 90, "diskSpaceWarningLevelRatio", unit "%", within 1..=100;
        /// Whether segments may be deleted before they expire.
        clean_file_forcibly_enable: bool = true, "cleanFileForciblyEnable";
        /// Segments deleted in one look at most.
        delete_file_batch_max: u64 = 10, "deleteFileBatchMax", within 1..=10000;
        /// Largest body of a message.
        max_message_size: u32 = 4194304, "maxMessageSize", unit "bytes", within 1..=16000000;
        /// Whether each record ends with a checksum of the whole of it (the property `__CRC32#`, which consumers see): then a damaged
        /// property, address or timestamp is found out as well, not the body alone.
        enabled_append_prop_crc: bool = false, "enabledAppendPropCRC";
        /// Messages in one answer to a pull when they are in memory.
        max_transfer_count_on_message_in_memory: u32 = 32, "maxTransferCountOnMessageInMemory", within 1..=65535;
        /// Bytes in one answer to a pull when they are in memory.
        max_transfer_bytes_on_message_in_memory: u32 = 262144, "maxTransferBytesOnMessageInMemory", unit "bytes", within 1..=16000000;
        /// Messages in one answer to a pull when they come from the disk.
        max_transfer_count_on_message_in_disk: u32 = 8, "maxTransferCountOnMessageInDisk", within 1..=65535;
        /// Bytes in one answer to a pull when they come from the disk.
        max_transfer_bytes_on_message_in_disk: u32 = 65536, "maxTransferBytesOnMessageInDisk", unit "bytes", within 1..=16000000;
        /// Whether messages can be found by key and unique id.
        message_index_enable: bool = true, "messageIndexEnable";
        /// Hash slots of an index file.
        max_hash_slot_num: u32 = 5000000, "maxHashSlotNum", within 1..=500000000;
        /// Entries of an index file.
        max_index_num: u32 = 20000000, "maxIndexNum", within 2..=2000000000;
        /// Messages that a query by key gives at most, unless its client says.
        default_query_max_num: u32 = 32, "defaultQueryMaxNum", within 1..=65535;
        /// Whether there are light queues (LMQ): topics `%LMQ%name` with one queue, which need not be created. Offsets of consumers are then kept in
        /// `lmqConsumerOffset.json`. Holds from the next start on.
        enable_lmq: bool = false, "enableLmq";
        /// Whether, with `enableLmq`, a message lies in the light queues that its property INNER_MULTI_DISPATCH names, besides its topic. Holds from the
        /// next start on.
        enable_multi_dispatch: bool = false, "enableMultiDispatch";
        /// Light queues that messages may name, in all.
        max_lmq_consume_queue_num: u32 = 20000, "maxLmqConsumeQueueNum", unit "queues", within 0..=2147483647;
        /// Port for replicas, told to name servers.
        ha_listen_port: u16 = 10912, "haListenPort";
        /// How long a message of each delay level waits, level 1 first: numbers with the unit s, m, h or d, separated by spaces; 256 at most.
        message_delay_level: String = String::from("1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"), "messageDelayLevel";
        /// How often `delayOffset.json` is written while delayed messages are delivered. Losing power may repeat what was delivered
        /// since; `kill -9` repeats a batch at most.
        flush_delay_offset_interval: u64 = 10000, "flushDelayOffsetInterval", unit "ms", within 10..=3600000;
        /// Whether messages with a deliver time of their own are taken. What waits stays in the log while it is off, as long as the log keeps messages.
        timer_wheel_enable: bool = true, "timerWheelEnable";
        /// How far ahead a deliver time may lie. Java: 3 days.
        timer_max_delay_sec: u64 = 31536000, "timerMaxDelaySec", unit "s", within 1..=3153600000;
        /// The tick of the Java broker that wrote this directory, or goes on with it: Java keeps deliver times in whole ticks. Here they are kept to the
        /// millisecond.
        timer_precision_ms: u64 = 1000, "timerPrecisionMs", unit "ms", within 1..=3600000;
        /// Age in ticks (`timerPrecisionMs`) at which a message that still waits is stored anew, so that the log can remove its old segments; half of `fileReservedTime` at
        /// most.
        timer_roll_window_slot: u64 = 172800, "timerRollWindowSlot", unit "ticks", within 1..=31536000;
        /// Whether to stop reading the messages that were sent for later; they stay in the log.
        timer_stop_enqueue: bool = false, "timerStopEnqueue";
        /// Whether to stop delivering the messages that are due; they wait.
        timer_stop_dequeue: bool = false, "timerStopDequeue";
        /// Whether topics with the attribute `cleanup.policy=COMPACTION` are compacted. What was compacted before stays as it is while it is off.
        enable_compaction: bool = true, "enableCompaction";
        /// How often they are compacted. It comes sooner when expired segments of the log wait for it.
        compaction_schedule_internal: u64 = 900000, "compactionScheduleInternal", unit "ms", within 10..=604800000;
        /// Queues that are compacted at a time, no more than processors.
        compaction_thread_num: u32 = 6, "compactionThreadNum", within 1..=1024;
        /// Memory for keys while queues are compacted, shared by those that are at a time: 96 bytes a key. A queue with more keys to look at takes
        /// several passes.
        max_offset_map_size: u64 = 104857600, "maxOffsetMapSize", unit "bytes", within 1048576..=17179869184;
        /// Whether producers may take timer messages back by their recall handle.
        recall_message_enable: bool = false, "recallMessageEnable";
        /// Whether they may while `brokerPermission` does not allow writing.
        allow_recall_when_broker_not_writeable: bool = true, "allowRecallWhenBrokerNotWriteable";
    }
}
