//! The name server's key-value configuration.

use super::fields;

fields! {
    /// Header of `DELETE_KV_CONFIG`: delete KV.
    pub struct DeleteKVConfigRequest {
        namespace: String = "namespace",
        key: String = "key",
    }
}

fields! {
    /// Header of `GET_KV_CONFIG`: get KV; 22 if absent.
    pub struct GetKVConfigRequest {
        namespace: String = "namespace",
        key: String = "key",
    }
}

fields! {
    /// Header of the answer to `GET_KV_CONFIG`.
    pub struct GetKVConfigResponse {
        value: Option<String> = "value",
    }
}

fields! {
    /// Header of `GET_KVLIST_BY_NAMESPACE`: KV namespace dump; 22 if absent.
    pub struct GetKVListByNamespaceRequest {
        namespace: String = "namespace",
    }
}

fields! {
    /// Header of `PUT_KV_CONFIG`: put KV.
    pub struct PutKVConfigRequest {
        namespace: String = "namespace",
        key: String = "key",
        value: String = "value",
    }
}
