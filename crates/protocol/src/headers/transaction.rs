//! Transactions.

use super::fields;

fields! {
    /// Header of `CHECK_TRANSACTION_STATE`: transaction check-back; body = half message record.
    pub struct CheckTransactionStateRequest {
        topic: Option<String> = "topic",
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        msg_id: Option<String> = "msgId",
        transaction_id: Option<String> = "transactionId",
        offset_msg_id: Option<String> = "offsetMsgId",
    }
}

fields! {
    /// RocketMQ's `CheckTransactionStateResponseHeader`.
    pub struct CheckTransactionStateResponse {
        producer_group: String = "producerGroup",
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        commit_or_rollback: i32 = "commitOrRollback",
    }
}

fields! {
    /// Header of `END_TRANSACTION`: commit/rollback half (usually oneway).
    pub struct EndTransactionRequest {
        topic: Option<String> = "topic",
        producer_group: String = "producerGroup",
        tran_state_table_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        commit_or_rollback: i32 = "commitOrRollback",
        from_transaction_check: bool = "fromTransactionCheck" or false,
        msg_id: String = "msgId",
        transaction_id: Option<String> = "transactionId",
    }
}

fields! {
    /// RocketMQ's `EndTransactionResponseHeader`.
    pub struct EndTransactionResponse {
    }
}

fields! {
    /// Header of `RESUME_CHECK_HALF_MESSAGE`: reset check times of half msg.
    pub struct ResumeCheckHalfMessageRequest {
        topic: Option<String> = "topic",
        msg_id: Option<String> = "msgId",
    }
}
