//! Users and access rules.

use serde::{Deserialize, Serialize};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct UserInfo {
    /// `password`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// `userStatus`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_status: Option<String>,
    /// `userType`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_type: Option<String>,
    /// `username`
    pub username: String,
}

/// What may be done with one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyEntryInfo {
    /// `actions`
    pub actions: Vec<String>,
    /// `decision`
    pub decision: String,
    /// `resource`
    pub resource: String,
    /// `sourceIps`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ips: Option<Vec<String>>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyInfo {
    /// `entries`
    pub entries: Vec<PolicyEntryInfo>,
    /// `policyType`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_type: Option<String>,
}

/// The rules of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct AclInfo {
    /// `policies`
    pub policies: Vec<PolicyInfo>,
    /// `subject`
    pub subject: String,
}
