//! Objects on disk: what was acknowledged is there again, with its resourceVersion.

use apiserver::ApiServer;
use serde_json::json;

use crate::{get, merge, post, send};

#[tokio::test]
async fn a_server_started_with_the_same_file_has_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects");
    let start = || ApiServer::builder().seed(1).persist(&file).build().unwrap();
    let (version, token) = {
        let server = start();
        let path = "/api/v1/namespaces/default/configmaps";
        post(&server, path, json!({"metadata": {"name": "a"}, "data": {"x": "1"}})).await;
        post(&server, path, json!({"metadata": {"name": "gone"}})).await;
        send(&server, "DELETE", &format!("{path}/gone"), "application/json", "").await;
        (merge(&server, &format!("{path}/a"), json!({"data": {"x": "2"}})).await.version(), server.admin_token().to_owned())
    };
    let server = start();
    assert_eq!(server.admin_token(), token);
    let again = get(&server, "/api/v1/namespaces/default/configmaps/a").await;
    assert_eq!((again.body["data"]["x"].as_str(), again.version()), (Some("2"), version.clone()));
    assert_eq!(get(&server, "/api/v1/namespaces/default/configmaps/gone").await.code, 404);
    let next = merge(&server, "/api/v1/namespaces/default/configmaps/a", json!({"data": {"x": "3"}})).await.version();
    assert!(next.parse::<u64>().unwrap() > version.parse::<u64>().unwrap());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}
