//! Token files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use handfast_api::admin::{IssuedToken, RedeemToken};
use handfast_api::grants::{TokenError, read_token, write_token};
use handfast_api::secret::Secret;
use handfast_testkit::authority::TestAuthority;

use crate::clients::{CODE, now};

fn issued() -> IssuedToken {
    IssuedToken {
        name: "west-1".to_owned(),
        url: "https://127.0.0.1:55672/v1/grants/abc".to_owned(),
        code: Secret::new(CODE),
        ca: TestAuthority::new("demo.example", now()).anchors().to_pem(),
        link_cost: 5,
        redemptions_allowed: 1,
        expiration_time: now(),
        agent: None,
    }
}

#[test]
fn a_token_is_written_privately_and_reads_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("east.token");
    let token = issued();
    write_token(&file, &token).expect("written");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).expect("readable");
    for line in ["apiVersion: handfast.dev/v1alpha1", "kind: AccessToken", "linkCost: 5"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.lines().next().is_some_and(|first| !first.contains(CODE)), "{text}");

    let read = read_token(&file).expect("read");
    assert_eq!(
        RedeemToken::from(&read),
        RedeemToken {
            name: token.name,
            url: token.url,
            code: token.code,
            ca: token.ca,
            link_cost: token.link_cost,
        }
    );
}

#[test]
fn what_is_no_token_is_told_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("t");
    let absent = read_token(&file);
    assert!(matches!(absent, Err(TokenError::Read { .. })), "{absent:?}");

    fs::write(&file, "").expect("written");
    assert!(matches!(read_token(&file), Err(TokenError::NotAToken { .. })));
    fs::write(
        &file,
        "apiVersion: handfast.dev/v1alpha1\nkind: AccessGrant\nmetadata: {name: a}\nspec: {}\n",
    )
    .expect("written");
    assert!(matches!(read_token(&file), Err(TokenError::NotAToken { .. })));
    fs::write(&file, "nonsense").expect("written");
    assert!(matches!(read_token(&file), Err(TokenError::Fault(_))));

    write_token(&file, &issued()).expect("written");
    let whole = fs::read_to_string(&file).expect("readable");
    fs::write(&file, &whole[..whole.len() / 2]).expect("written");
    let half = read_token(&file);
    assert!(matches!(half, Err(TokenError::Fault(_))), "{half:?}");
    fs::write(&file, format!("{whole}---\n{}", whole.replace("west-1", "west-2")))
        .expect("written");
    assert!(matches!(read_token(&file), Err(TokenError::Several { count: 2, .. })));
    fs::write(&file, vec![b'#'; 300 * 1024]).expect("written");
    assert!(matches!(read_token(&file), Err(TokenError::Read { .. })));
}
