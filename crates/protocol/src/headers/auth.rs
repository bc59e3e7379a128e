//! Users and access rules.

use super::fields;

fields! {
    /// Header of `AUTH_CREATE_ACL`: create ACL; body AclInfo.
    pub struct CreateAclRequest {
        subject: Option<String> = "subject",
    }
}

fields! {
    /// Header of `AUTH_CREATE_USER`: create user; body UserInfo.
    pub struct CreateUserRequest {
        username: Option<String> = "username",
    }
}

fields! {
    /// Header of `AUTH_DELETE_ACL`: delete ACL.
    pub struct DeleteAclRequest {
        subject: Option<String> = "subject",
        policy_type: Option<String> = "policyType",
        resource: Option<String> = "resource",
    }
}

fields! {
    /// Header of `AUTH_DELETE_USER`: delete user.
    pub struct DeleteUserRequest {
        username: Option<String> = "username",
    }
}

fields! {
    /// Header of `AUTH_GET_ACL`: get ACL; 3002 if absent.
    pub struct GetAclRequest {
        subject: Option<String> = "subject",
    }
}

fields! {
    /// Header of `AUTH_GET_USER`: get user; 3001 if absent.
    pub struct GetUserRequest {
        username: Option<String> = "username",
    }
}

fields! {
    /// Header of `AUTH_LIST_ACL`: list ACLs.
    pub struct ListAclsRequest {
        subject_filter: Option<String> = "subjectFilter",
        resource_filter: Option<String> = "resourceFilter",
    }
}

fields! {
    /// Header of `AUTH_LIST_USER`: list users.
    pub struct ListUsersRequest {
        filter: Option<String> = "filter",
    }
}

fields! {
    /// Header of `AUTH_UPDATE_ACL`: update ACL; body AclInfo.
    pub struct UpdateAclRequest {
        subject: Option<String> = "subject",
    }
}

fields! {
    /// Header of `AUTH_UPDATE_USER`: update user; body UserInfo.
    pub struct UpdateUserRequest {
        username: Option<String> = "username",
    }
}
