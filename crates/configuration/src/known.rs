//! Every key of RocketMQ 5.3.3 by the reason why it may have no effect here.
//!
//! A role that declares a key takes precedence: what stands here is asked only for keys that no role declared.

/// Why a key of RocketMQ's has no effect; `None` when RocketMQ has no such key.
pub fn reason_ignored(key: &str) -> Option<&'static str> {
    GROUPS
        .iter()
        .find(|group| group.keys.binary_search(&key).is_ok())
        .map(|group| group.reason)
}

/// Every key that RocketMQ knows.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.keys.iter().copied())
}

struct Group {
    reason: &'static str,
    /// Sorted.
    keys: &'static [&'static str],
}

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    // Thread pools and their queues.
    Group {
        reason: "requests are served by the task that read them: there are no such pools or queues to size",
        keys: &[
            "ackMessageThreadPoolNums", "ackThreadPoolQueueCapacity", "adminBrokerThreadPoolNums", "adminBrokerThreadPoolQueueCapacity",
            "batchDispatchRequestThreadPoolNums", "brokerFastFailureEnable", "clientAsyncSemaphoreValue", "clientCallbackExecutorThreads",
            "clientManageThreadPoolNums", "clientManagerThreadPoolQueueCapacity", "clientOnewaySemaphoreValue", "clientPooledByteBufAllocatorEnable",
            "clientRequestThreadPoolNums", "clientRequestThreadPoolQueueCapacity", "clientWorkerThreads",
            "consumerManageThreadPoolNums", "consumerManagerThreadPoolQueueCapacity", "controllerRequestThreadPoolQueueCapacity",
            "controllerThreadPoolNums", "defaultThreadPoolNums", "defaultThreadPoolQueueCapacity", "disableNettyWorkerGroup", "dispatchCqCacheNum",
            "dispatchCqThreads", "endTransactionPoolQueueCapacity", "endTransactionThreadPoolNums", "heartbeatThreadPoolNums",
            "heartbeatThreadPoolQueueCapacity", "litePullMessageThreadPoolNums", "litePullThreadPoolQueueCapacity",
            "loadBalanceProcessorThreadPoolNums", "loadBalanceThreadPoolQueueCapacity", "processReplyMessageThreadPoolNums",
            "pullMessageThreadPoolNums", "pullThreadPoolQueueCapacity", "putMessageFutureThreadPoolNums", "putThreadPoolQueueCapacity",
            "queryMessageThreadPoolNums", "queryThreadPoolQueueCapacity", "recoverThreadPoolNums", "replyThreadPoolQueueCapacity",
            "sendMessageThreadPoolNums", "sendThreadPoolQueueCapacity", "serverAsyncSemaphoreValue", "serverCallbackExecutorThreads",
            "serverNettyWorkerGroupEnable", "serverOnewaySemaphoreValue", "serverPooledByteBufAllocatorEnable", "serverSelectorThreads",
            "serverWorkerThreads", "timerEnableDisruptor", "timerGetMessageThreadNum", "timerPutMessageThreadNum", "unRegisterBrokerQueueCapacity",
            "useEpollNativeSelector", "waitTimeMillsInAckQueue", "waitTimeMillsInAdminBrokerQueue", "waitTimeMillsInHeartbeatQueue",
            "waitTimeMillsInLitePullQueue", "waitTimeMillsInPullQueue", "waitTimeMillsInTransactionQueue",
        ],
    },
    // Memory maps and page cache.
    Group {
        reason: "files are written by calls, not through memory maps, so there is nothing to tune here",
        keys: &[
            "accessMessageInMemoryHotRatio", "cleanSwapedMapInterval", "commitCommitLogLeastPages", "commitCommitLogThoroughInterval",
            "commitIntervalCommitLog", "commitLogForceSwapMapInterval", "commitLogSwapMapInterval", "commitLogSwapMapReserveFileNum",
            "destroyMapedFileIntervalForcibly", "fastFailIfNoBufferInStorePool", "flushCommitLogLeastPages", "flushConsumeQueueLeastPages",
            "flushLeastPagesWhenWarmMapedFile", "logicQueueForceSwapMapInterval", "logicQueueSwapMapInterval", "logicQueueSwapMapReserveFileNum",
            "mappedFileSize", "mappedFileSizeCommitLog", "mappedFileSizeConsumeQueue", "mappedFileSwapEnable", "osPageCacheBusyTimeOutMills",
            "putConsumeQueueDataByFileChannel", "transferMsgByHeap", "transientStorePoolEnable", "transientStorePoolSize", "warmMapedFileEnable",
            "writeWithoutMmap",
        ],
    },
    // Keys of one role in another role's file.
    Group {
        reason: "it belongs to another role, which has its own file",
        keys: &[
            "autoCreateSubscriptionGroup", "autoCreateTopicEnable", "bindAddress", "brokerClusterName", "brokerIP1", "brokerIP2", "brokerId",
            "brokerName", "brokerPermission", "brokerTopicEnable", "channelExpiredTimeout", "cleanFileForciblyEnable", "cleanResourceInterval",
            "clusterTopicEnable", "configBlackList", "configStorePath", "defaultQueryMaxNum", "defaultTopicQueueNums", "deleteFileBatchMax",
            "deleteTopicWithBrokerRegistration", "deleteWhen", "diskMaxUsedSpaceRatio", "diskSpaceCleanForciblyRatio", "diskSpaceWarningLevelRatio",
            "enableAllTopicList", "enablePropertyFilter", "enableTopicList", "fileReservedTime", "filterDataCleanTimeSpan", "filterSupportRetry",
            "flushConsumerOffsetInterval", "flushDelayOffsetInterval", "flushDiskType", "flushIntervalCommitLog",
            "kvConfigPath", "listenPort", "litePullMessageEnable", "longPollingEnable", "maxHashSlotNum", "maxIndexNum", "maxMessageSize",
            "maxTransferBytesOnMessageInDisk", "maxTransferBytesOnMessageInMemory", "maxTransferCountOnMessageInDisk",
            "maxTransferCountOnMessageInMemory", "messageDelayLevel", "messageIndexEnable", "msgTraceTopicName", "namesrvAddr", "needWaitForService",
            "notifyConsumerIdsChangedEnable", "notifyMinBrokerIdChanged", "orderMessageEnable", "regionId", "registerBrokerTimeoutMills",
            "registerNameServerPeriod", "returnOrderTopicConfigToBroker", "scanNotActiveBrokerInterval", "serverChannelMaxIdleTimeSeconds",
            "shortPollingTimeMills", "storePathCommitLog", "storePathRootDir", "storeReplyMessageEnable", "syncFlushTimeout", "traceOn", "traceTopicEnable",
            "useServerSideResetOffset", "waitSecondsForService",
        ],
    },
    // Java's own ways of doing things.
    Group {
        reason: "it tunes a part of the Java server that has no counterpart here",
        keys: &[
            "accessMessageInMemoryMaxRatio", "asyncSendEnable", "autoMessageVersionOnTopicLen", "brokerConfigPath",
            "checkCRCOnRecover", "clearRetryTopicWhenDeleteTopic", "clusterName", "clusterTest", "compatibleWithOldNameSrv", "compressedRegister",
            "configManagerVersion", "configName", "consumerFallbehindThreshold", "consumerOffsetUpdateVersionStep",
            "correctLogicMinOffsetForceInterval", "correctLogicMinOffsetSleepInterval", "debugLockEnable", 
            "deleteCommitLogFilesInterval", "deleteConsumeQueueFilesInterval", "disableConsumeIfConsumerReadSlowly", "diskFallRecorded",
            "dispatchFromSenderThread", "enableAcceleratedRecovery", "enableAsyncReput", "enableBuildConsumeQueueConcurrently",
            "enableCleanExpiredOffset", "enableCreateSysGroup", "enableFastChannelEventProcess", "enableLogConsumeQueueRepeatedlyBuildWhenRecover",
            "enableMixedMessageType", "enableNetWorkFlowControl", "enableRegisterProducer", "enableRunningFlagsInFlush", "enableSingleTopicRegister",
            "enableSplitMetadata", "enableSplitRegistration", "estimateAccumulation", "flushCommitLogThoroughInterval",
            "flushCommitLogTimed", "flushConsumeQueueThoroughInterval", "flushConsumerOffsetHistoryInterval", "flushIntervalConsumeQueue",
            "forceRegister", "forceVerifyPropCRC", "forwardTimeout", "highSpeedMode", "loadBalancePollNameServerInterval", "lockInStrictMode",
            "logicalDiskSpaceCleanForciblyThreshold", "maxAsyncPutMessageRequests", "maxBatchDeleteFilesNum",
            "maxChecksumRange", "maxConsumeQueueScan", "maxMsgsNumBatch", "maxRecoveryCommitlogFiles", "maxTopicLength", "messageIndexSafe",
            "messageStorePlugIn", "printChannelGroups", "printChannelGroupsMinNum", "productEnvName", "pullBatchMaxMessageCount", "putMessageTimeout",
            "putMsgIndexHightWater", "readOnlyCommitLogStorePaths", "readUnCommitted", "realTimeNotifyConsumerChange", "recheckReputOffsetFromCq",
            "recoverConcurrently", "redeleteHangedFileInterval", "rejectPullConsumerEnable", "rocketmqHome", "sampleCountThreshold",
            "searchBcqByCacheEnable", "spinLockCollisionRetreatOptimalDegree", "splitMetadataSize",
            "splitRegistrationSize", "startAcceptSendRequestTimeStamp", "storeType", "subscriptionExpiredTimeout",
            "topicQueueLockNum", "travelCqFileNumWhenGetMessage", "useABSLock", "useReentrantLockWhenPutMessage", "useStaticSubscription",
            "validateSystemTopicWhenUpdateTopic", "wakeCommitWhenPutMessage", "wakeFlushWhenPutMessage",
        ],
    },
    // Sockets.
    Group {
        reason: "connections are sized by this program's own bounds",
        keys: &[
            "channelNotActiveInterval", "clientChannelMaxIdleTimeSeconds", "clientCloseSocketIfTimeout", "clientSocketRcvBufSize",
            "clientSocketSndBufSize", "connectTimeoutMillis", "disableCallbackExecutor", "enableReconnectForGoAway", "enableShutdownGracefully",
            "isScanAvailableNameSrv", "maxReconnectIntervalTimeSeconds", "serverSocketBacklog", "serverSocketRcvBufSize", "serverSocketSndBufSize",
            "shutdownWaitTimeSeconds", "socksProxyConfig", "useTLS", "writeBufferHighWaterMark", "writeBufferLowWaterMark",
        ],
    },
    // Metrics and statistics.
    Group {
        reason: "metrics are planned and not there yet",
        keys: &[
            "accountStatsEnable", "accountStatsPrintZeroValues", "autoDeleteUnusedStats", "commercialBaseCount", "commercialSizePerMsg",
            "enableConnectionMetrics", "enableDetailStat", "enableLagAndDlqMetrics", "enableLmqStats", "enableMessageStoreMetrics",
            "enableRemotingMetrics", "enableRequestMetrics", "enableStatsMetrics", "isolateLogEnable", "maxStatsIdleTimeInMinutes",
            "metricGrpcExporterIntervalInMills", "metricGrpcExporterTimeOutInMills", "metricLoggingExporterIntervalInMills", "metricsExporterType",
            "metricsGrpcExporterHeader", "metricsGrpcExporterTarget", "metricsInDelta", "metricsLabel", "metricsOtelCardinalityLimit",
            "metricsPromExporterHost", "metricsPromExporterPort",
        ],
    },
    // Replication.
    Group {
        reason: "replication is planned and not there yet: this broker is a master without slaves",
        keys: &[
            "allAckInSyncStateSet", "asyncLearner", "brokerHeartbeatInterval", "brokerNotActiveTimeoutMillis", "brokerRole",
            "cleanOfflineBrokerInterval", "duplicationEnable", "enableAutoInSyncReplicas", "enableRemoteEscape", "enableSlaveActingMaster",
            "haFlowControlEnable", "haHousekeepingInterval", "haListenPort", "haMasterAddress", "haMaxGapNotInSync", "haMaxTimeSlaveNotCatchup",
            "haSendHeartbeatInterval", "haTransferBatchSize", "inSyncReplicas", "maxHaTransferByteInSecond", "maxSlaveResendLength",
            "minInSyncReplicas", "offsetCheckInSlave", "replicasPerDiskPartition", "sendHeartbeatTimeoutMillis", "skipPreOnline", "slaveReadEnable",
            "slaveTimeout", "supportActingMaster", "syncBrokerMemberGroupPeriod", "syncFromLastFile", "syncMasterFlushOffsetWhenStartup",
            "totalReplicas",
        ],
    },
    // Controller and DLedger.
    Group {
        reason: "automatic election of masters is planned and not there yet",
        keys: &[
            "brokerElectionPriority", "checkSyncStateSetPeriod", "controllerAddr", "controllerDLegerGroup", "controllerDLegerPeers",
            "controllerDLegerSelfId", "controllerHeartBeatTimeoutMills", "controllerStorePath", "controllerType", "dLegerGroup", "dLegerPeers",
            "dLegerSelfId", "electMasterMaxRetryCount", "enableBatchPush", "enableControllerInNamesrv", "enableControllerMode",
            "enableDLegerCommitLog", "enableElectUncleanMaster", "fetchControllerAddrByDnsLookup", "isProcessReadEvent", "jRaftControllerRPCAddr",
            "jRaftElectionTimeoutMs", "jRaftGroupId", "jRaftInitConf", "jRaftScanWaitTimeoutMs", "jRaftServerId", "jRaftSnapshotIntervalSecs",
            "jraftConfig", "notifyBrokerRoleChanged", "preferredLeaderId", "scanInactiveMasterInterval", "storePathBrokerIdentity",
            "storePathDLedgerCommitLog", "storePathEpochFile", "syncBrokerMetadataPeriod", "syncControllerMetadataPeriod",
        ],
    },
    // POP consumption.
    Group {
        reason: "what is popped needs no checkpoints, buffers and revive queues here: a group's offset stays behind the first message that is not acknowledged",
        keys: &[
            "appendAckAsync", "appendCkAsync", "enablePopBatchAck", "enablePopBufferMerge", "enableSkipLongAwaitingAck", "popCkMaxBufferSize",
            "popCkOffsetMaxQueueSize", "popCkStayBufferTime", "popCkStayBufferTimeOut", "popConsumerFSServiceInit", "popConsumerKVServiceEnable",
            "popConsumerKVServiceInit", "popConsumerKVServiceLog", "popReviveMaxAttemptTimes", "popReviveMaxReturnSizePerRead", "reviveAckWaitMs",
            "reviveInterval", "reviveMaxSlow", "reviveScanTime", "skipWhenCKRePutReachMaxTimes",
        ],
    },
    Group {
        reason: "pops that wait are woken by what they wait for and forgotten by themselves, without a setting",
        keys: &[
            "enableNotifyAfterPopOrderLockRelease", "enableNotifyBeforePopCalculateLag", "popLongPollingForceNotifyInterval",
            "popPollingMapExpireTimeSeconds",
        ],
    },
    Group {
        reason: "metrics and the log of POP consumption are planned and not there yet",
        keys: &["enablePopLog", "enablePopMetrics"],
    },
    // Delayed and timed messages.
    Group {
        reason: "delayed messages are delivered in batches and in order, without a setting",
        keys: &[
            "delayOffsetUpdateVersionStep", "enableScheduleAsyncDeliver", "enableScheduleMessageStats", "scheduleAsyncDeliverMaxPendingLimit",
            "scheduleAsyncDeliverMaxResendNum2Blocked",
        ],
    },
    Group {
        reason: "timer messages are kept in sorted files and delivered by one task, without this setting",
        keys: &[
            "disappearTimeAfterStart", "mappedFileSizeTimerLog", "timerCheckMetricsWhen", "timerColdDataCheckIntervalMs", "timerCongestNumEachSlot",
            "timerEnableCheckMetrics", "timerEnableRetryUntilSuccess", "timerFlushIntervalMs", "timerInterceptDelayLevel", "timerMetricSmallThreshold",
            "timerProgressLogIntervalMs", "timerSkipUnknownError", "timerWarmEnable",
        ],
    },
    // Transactions.
    Group {
        reason: "how a transaction ended is written with the message, at once; pending ones are counted in memory",
        keys: &[
            "enableTransactionMetrics", "transactionMetricFlushInterval", "transactionOpBatchInterval", "transactionOpMsgMaxSize",
        ],
    },
    // SQL92 filters.
    Group {
        reason: "expressions are compiled and asked of messages themselves: there are no bits of messages to keep beside the queues",
        keys: &[
            "bitMapLengthConsumeQueueExt", "enableCalcFilterBitMap", "enableConsumeQueueExt", "expectConsumerNumUseFilter",
            "mappedFileSizeConsumeQueueExt", "maxErrorRateOfBloomFilter",
        ],
    },
    Group {
        reason: "a pull looks at 800 messages or 4 MiB of them at most, and goes on with the next pull",
        keys: &["maxFilterMessageSize"],
    },
    // Compaction topics.
    Group {
        reason: "what is kept of a queue is one file of records and one of entries, written whole and as long as they are",
        keys: &[
            "compactionCqMappedFileSize", "compactionMappedFileSize",
        ],
    },
    // Cold data.
    Group {
        reason: "each read says whether the kernel had its bytes in memory: nothing is scanned or sampled",
        keys: &[
            "coldDataScanEnable", "sampleSteps",
        ],
    },
    // Access control.
    Group {
        reason: "access control is planned and not there yet: every client may do everything",
        keys: &[
            "aclCacheExpiredSecond", "aclCacheMaxNum", "aclCacheRefreshSecond", "aclEnable", "authConfigPath", "authenticationEnabled",
            "authenticationMetadataProvider", "authenticationProvider", "authenticationStrategy", "authenticationWhitelist", "authorizationEnabled",
            "authorizationMetadataProvider", "authorizationProvider", "authorizationStrategy", "authorizationWhitelist",
            "initAuthenticationUser", "innerClientAuthenticationCredentials", "migrateAuthFromV1Enabled", "statefulAuthenticationCacheExpiredSecond",
            "statefulAuthenticationCacheMaxNum", "statefulAuthorizationCacheExpiredSecond", "statefulAuthorizationCacheMaxNum",
            "userCacheExpiredSecond", "userCacheMaxNum", "userCacheRefreshSecond",
        ],
    },
    // TLS: Java reads these from system properties and from tls.properties.
    Group {
        reason: "servers show a certificate and do not ask for one; clients have their own settings",
        keys: &[
            "tls.client.authServer", "tls.client.certPath", "tls.client.keyPassword", "tls.client.keyPath", "tls.client.trustCertPath",
            "tls.config.file", "tls.enable", "tls.server.authClient", "tls.server.keyPassword", "tls.server.need.client.auth",
            "tls.server.trustCertPath",
        ],
    },
    // Proxy.
    Group {
        reason: "the gRPC proxy is planned and not there yet",
        keys: &[
            "aclCacheExpiredSeconds", "aclCacheRefreshSeconds", "channelExpiredInSeconds", "consumerProcessorThreadPoolNums",
            "consumerProcessorThreadPoolQueueCapacity", "contextExpiredInSeconds", "defaultInvisibleTimeMills", "detectInterval", "detectTimeout",
            "enableAclRpcHookForClusterMode", "enableBatchAck", "enableGrpcEpoll", "enableMessageBodyEmptyCheck", "enablePrintJstack",
            "enableProxyAutoRenew", "enableRemotingLocalProxyGrpc", "enableTopicMessageTypeCheck", "grpcBossLoopNum",
            "grpcClientConsumerLongPollingBatchSize", "grpcClientConsumerMaxLongPollingTimeoutMillis",
            "grpcClientConsumerMinLongPollingTimeoutMillis", "grpcClientIdleTimeMills", "grpcClientManagerThreadPoolNums",
            "grpcClientManagerThreadQueueCapacity", "grpcClientProducerBackoffInitialMillis", "grpcClientProducerBackoffMaxMillis",
            "grpcClientProducerBackoffMultiplier", "grpcClientProducerMaxAttempts", "grpcConsumerThreadPoolNums", "grpcConsumerThreadQueueCapacity",
            "grpcMaxInboundMessageSize", "grpcProducerThreadPoolNums", "grpcProducerThreadQueueCapacity", "grpcProxyRelayRequestTimeoutInSeconds",
            "grpcRouteThreadPoolNums", "grpcRouteThreadQueueCapacity", "grpcServerPort", "grpcShutdownTimeSeconds", "grpcThreadPoolNums",
            "grpcThreadPoolQueueCapacity", "grpcTransactionThreadPoolNums", "grpcTransactionThreadQueueCapacity", "grpcWorkerLoopNum",
            "heartbeatSyncerThreadPoolNums", "heartbeatSyncerThreadPoolQueueCapacity", "heartbeatSyncerTopicClusterName", "heartbeatSyncerTopicName",
            "invisibleTimeMillisWhenClear", "localProxyConnectTimeoutMs", "localServeAddr", "lockTimeoutMsInHandleGroup",
            "longPollingReserveTimeInMillis", "maxDelayTimeMills", "maxInvisibleTimeMills", "maxMessageGroupSize", "maxRenewRetryTimes",
            "maxTransactionRecoverySecond", "maxUserPropertySize", "metadataThreadPoolNums", "metadataThreadPoolQueueCapacity",
            "metricCollectorAddress", "metricCollectorMode", "minInvisibleTimeMillsForRecv", "namesrvDomain", "namesrvDomainSubgroup",
            "printJstackInMillis", "printThreadPoolStatusInMillis", "producerProcessorThreadPoolNums", "producerProcessorThreadPoolQueueCapacity",
            "proxyClusterName", "proxyMode", "proxyName", "remotingAccessAddr", "remotingDefaultThreadPoolNums",
            "remotingDefaultThreadPoolQueueCapacity", "remotingHeartbeatThreadPoolNums", "remotingHeartbeatThreadPoolQueueCapacity",
            "remotingListenPort", "remotingPullMessageThreadPoolNums", "remotingPullThreadPoolQueueCapacity", "remotingSendMessageThreadPoolNums",
            "remotingSendThreadPoolQueueCapacity", "remotingTopicRouteThreadPoolNums", "remotingTopicRouteThreadPoolQueueCapacity",
            "remotingUpdateOffsetThreadPoolNums", "remotingUpdateOffsetThreadPoolQueueCapacity", "remotingWaitTimeMillsInDefaultQueue",
            "remotingWaitTimeMillsInHeartbeatQueue", "remotingWaitTimeMillsInPullQueue", "remotingWaitTimeMillsInSendQueue",
            "remotingWaitTimeMillsInTopicRouteQueue", "remotingWaitTimeMillsInUpdateOffsetQueue", "renewAheadTimeMillis", "renewMaxThreadPoolNums",
            "renewMaxTimeMillis", "renewSchedulePeriodMillis", "renewThreadPoolNums", "renewThreadPoolQueueCapacity", "rocketMQClusterName",
            "rocketmqMQClientNum", "sendLatencyEnable", "startDetectorEnable", "subscriptionGroupConfigCacheExpiredSeconds",
            "subscriptionGroupConfigCacheMaxNum", "subscriptionGroupConfigCacheRefreshSeconds", "tlsCertPath", "tlsCertWatchIntervalMs", "tlsKeyPath",
            "tlsTestModeEnable", "topicConfigCacheExpiredSeconds", "topicConfigCacheMaxNum", "topicConfigCacheRefreshSeconds",
            "topicRouteServiceCacheExpiredSeconds", "topicRouteServiceCacheMaxNum", "topicRouteServiceCacheRefreshSeconds",
            "topicRouteServiceThreadPoolNums", "topicRouteServiceThreadPoolQueueCapacity", "transactionDataExpireMillis",
            "transactionDataExpireScanPeriodMillis", "transactionDataMaxNum", "transactionDataMaxWaitClearMillis", "transactionHeartbeatBatchNum",
            "transactionHeartbeatPeriodSecond", "transactionHeartbeatThreadPoolNums", "transactionHeartbeatThreadPoolQueueCapacity", "useDelayLevel",
            "useEndpointPortFromRequest", "userCacheExpiredSeconds", "userCacheRefreshSeconds", "userPropertyMaxNum",
        ],
    },
    // Tiered storage.
    Group {
        reason: "tiered storage is not planned in Java's form",
        keys: &[
            "commitLogRollingInterval", "commitLogRollingMinimumSize", "objectStoreAccessKey", "objectStoreBucket", "objectStoreEndpoint",
            "objectStoreSecretKey", "readAheadCacheEnable", "readAheadCacheExpireDuration", "readAheadCacheSizeThresholdRate",
            "readAheadMessageCountThreshold", "readAheadMessageSizeThreshold", "recordGetMessageResult", "tieredBackendServiceProvider",
            "tieredMetadataServiceProvider", "tieredStorageLevel", "tieredStoreCommitLogMaxSize", "tieredStoreConsumeQueueMaxSize",
            "tieredStoreCrcCheckEnable", "tieredStoreDeleteFileEnable", "tieredStoreDeleteFileInterval", "tieredStoreFilePath",
            "tieredStoreFileReservedTime", "tieredStoreGroupCommit", "tieredStoreGroupCommitCount", "tieredStoreGroupCommitSize",
            "tieredStoreGroupCommitTimeout", "tieredStoreIndexFileMaxHashSlotNum", "tieredStoreIndexFileMaxIndexNum",
            "tieredStoreMaxGroupCommitCount", "tieredStoreMaxPendingLimit",
        ],
    },
    // RocksDB.
    Group {
        reason: "consume queues and configuration are kept in files, not in RocksDB",
        keys: &[
            "bottomMostCompressionTypeForConsumeQueueStore", "cleanRocksDBDirtyCQIntervalMin", "combineAssignOffsetCQType",
            "combineCQEnableCheckSelf", "combineCQLoadingCQTypes", "combineCQMaxExtraSearchCommitLogFiles", "combineCQPreferCQType",
            "enableRocksDBLog", "memTableFlushIntervalMs", "realTimePersistRocksDBConfig", "rocksdbCQDoubleWriteEnable", "rocksdbCompressionType",
            "rocksdbFlushWalFrequency", "rocksdbWalFileRollingThreshold", "statRocksDBCQIntervalSec",
        ],
    },
    // Broker container.
    Group {
        reason: "several brokers in one process are not planned in Java's form",
        keys: &[
            "brokerConfigPaths", "brokerContainerIP", "isBrokerContainer", "isInBrokerContainer",
        ],
    },
    // Address servers.
    Group {
        reason: "name servers are given as a list of addresses, which the resolver looks up",
        keys: &[
            "fetchNameSrvAddrByDnsLookup", "fetchNamesrvAddrByAddressServer", "fetchNamesrvAddrInterval", "updateNameServerAddrPeriod",
            "updateNamesrvAddrInterval",
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_in_one_group_only() {
        for group in GROUPS {
            assert!(group.keys.is_sorted(), "{}", group.reason);
        }
        let mut names: Vec<&str> = all().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn an_unknown_key_has_no_reason() {
        assert!(reason_ignored("transientStorePoolEnable").is_some());
        assert!(reason_ignored("noSuchKey").is_none());
    }
}
