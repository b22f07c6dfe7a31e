//! Values that Node's `crypto` sealed, so that neither the cipher, the associated data nor the layout is checked
//! against itself. Made with Node 20: `createCipheriv('aes-256-gcm', key, iv)` with [`KEY`](crate::KEY), iv bytes a0,
//! a1, … (16 of them) or b0, b1, … (12), parts joined by `:` after `toString('base64')`. For `v1`, `setAAD` of the
//! bytes that the crate's envelope states: `tenantry:v1:`, then key id, the tenant's UUID bytes and the column, each
//! after its length from `writeUInt32BE`.

use secrecy::ExposeSecret;
use tenantry_credential::{CredentialColumn, Form, Login, OpenError};

use crate::{NEIGHBOUR, OTHER_KEY, TENANT, keyring, ring_of};

/// `{"user":"app_restricted","password":"correct horse: battery \"staple\""}`, 16-byte iv.
pub(crate) const THREE_PART_16: &str = "oKGio6SlpqeoqaqrrK2urw==:ISYW1roa43iuJ13jTxw6dw==:\
    UYFWz32/70zh/2/Bsmbo4/Y3KhoKUTWO0TAa12pGUeh+9cRZt7DQz5xsU9Y4KtiCaV+dQrZk2VWDSwdE/UfTnWjummdU7p0V";
/// The same plaintext, 12-byte iv.
pub(crate) const THREE_PART_12: &str = "sLGys7S1tre4ubq7:rTLFzkDliVdJ4isgSbcf4w==:\
    4ncv2Im/mWVlmefSki/tsfBOILFhS+sXcuzykC/xhXl3LwEAQb3Jytc+wz4c0e3HXggt53laNoQo+BUQWLlTi9OYUtFWnkSn";
/// The same plaintext, 16-byte iv, sealed with [`OTHER_KEY`].
pub(crate) const THREE_PART_OTHER_KEY: &str = "oKGio6SlpqeoqaqrrK2urw==:AHQxFi6knbdJ44fV0w6htg==:\
    NMO/S6ab7FfLhu5CaqvOAoJp+EPxM9N0jav2+eFYCXVPnE01r9tubCcaqgNTAWQW5V5e50kxtSW7ppZfrHfXMz2u+yjjaWdy";
/// `{"user":"müller","password":"пароль-密码-🔑"}`, 16-byte iv.
const THREE_PART_NON_ASCII: &str = "oKGio6SlpqeoqaqrrK2urw==:bMLhRVJHd1cdr0ql1M9+Tw==:\
    UYFWz32/70zh89wNgXjo4qBpYQkfRyLbkmAOlCMX9jjcITfjRW1vBj+FHUe3xFBQmxdX/UCUj1w=";
/// The API token `sbp_0123456789abcdef0123456789abcdef01234567`, 16-byte iv: what the original stored.
pub(crate) const THREE_PART_TOKEN: &str = "oKGio6SlpqeoqaqrrK2urw==:bKXOqZnGZ+dlm3FJHx4shA==:\
    WcFT4yj8/0X3qymG1S3s8uEhJh9OBWOfySdcgSEMR+Vv9YMFpeKNjto8BpU=";
/// The empty text, 16-byte iv.
const THREE_PART_EMPTY: &str = "oKGio6SlpqeoqaqrrK2urw==:Ai+EHHArZrC+yBEfZ94iHQ==:";
/// The plaintext of [`THREE_PART_16`], for [`TENANT`] and `data_source_anon_key`, key id `default`.
const V1: &str = "v1:default:sLGys7S1tre4ubq7:nbFUIUoZbubu2WJ2OgO3wA==:\
    4ncv2Im/mWVlmefSki/tsfBOILFhS+sXcuzykC/xhXl3LwEAQb3Jytc+wz4c0e3HXggt53laNoQo+BUQWLlTi9OYUtFWnkSn";
/// The plaintext of [`THREE_PART_NON_ASCII`], for [`TENANT`] and `data_source_service_key`, sealed with [`OTHER_KEY`]
/// under the id `k-2026_02`.
const V1_OTHER_KEY: &str = "v1:k-2026_02:sLGys7S1tre4ubq7:HeL14BewBxitcDtt6FNAgw==:\
    X0YK26T35HL2921XpwTvM0oLBhERf42DGeDndovuGBVliZj7lPY4lK/Wesq/e1MAGc3tNYy7hvM=";

fn login() -> Login {
    Login::new("app_restricted", r#"correct horse: battery "staple""#).unwrap()
}

/// Catches: values of the original that can't be read after the move (ring alone refuses the 16-byte iv).
#[test]
fn the_originals_values_open_with_either_iv() {
    for sealed in [THREE_PART_16, THREE_PART_12] {
        assert_eq!(keyring().open(TENANT, CredentialColumn::Anon, sealed), Ok(login()));
    }
    let non_ascii = keyring().open(TENANT, CredentialColumn::Service, THREE_PART_NON_ASCII).unwrap();
    assert_eq!((non_ascii.user.as_str(), non_ascii.password.expose_secret()), ("müller", "пароль-密码-🔑"));
    assert_eq!(keyring().form(THREE_PART_16), Form::ThreePart16);
    assert_eq!(keyring().form(THREE_PART_12), Form::ThreePart12);
}

/// Catches: the API tokens that the original kept in these columns being used as a login, or quoted in the error.
#[test]
fn what_opens_to_something_else_is_not_a_login() {
    for sealed in [THREE_PART_TOKEN, THREE_PART_EMPTY] {
        assert_eq!(keyring().open(TENANT, CredentialColumn::Anon, sealed), Err(OpenError::NotALogin));
    }
    assert!(!OpenError::NotALogin.to_string().contains("sbp_"));
}

/// Catches: a changed byte of associated data or layout, after which nothing that is stored opens.
#[test]
fn the_current_form_is_what_its_description_says() {
    assert_eq!(keyring().open(TENANT, CredentialColumn::Anon, V1), Ok(login()));
    let other = ring_of("k-2026_02", &[("k-2026_02", OTHER_KEY)]);
    let opened = other.open(TENANT, CredentialColumn::Service, V1_OTHER_KEY).unwrap();
    assert_eq!((opened.user.as_str(), opened.password.expose_secret()), ("müller", "пароль-密码-🔑"));
}

/// Catches: a sealed value copied into another tenant's row, or from one column to the other, that opens there.
#[test]
fn the_current_form_opens_in_its_own_place_only() {
    for (tenant, column) in [
        (NEIGHBOUR, CredentialColumn::Anon),
        (TENANT, CredentialColumn::Service),
        (NEIGHBOUR, CredentialColumn::Service),
    ] {
        assert_eq!(keyring().open(tenant, column, V1), Err(OpenError::Authentication));
    }
    // The same key under another name: the name is bound, too.
    let renamed = ring_of("renamed", &[("renamed", crate::KEY)]);
    let sealed = V1.replacen("default", "renamed", 1);
    assert_eq!(renamed.open(TENANT, CredentialColumn::Anon, &sealed), Err(OpenError::Authentication));
}

/// Catches: stripping the envelope of a value to get rid of what binds it, or dressing an unbound value as a bound one.
#[test]
fn one_form_does_not_pass_for_the_other() {
    let stripped = V1.strip_prefix("v1:default:").unwrap();
    assert_eq!(keyring().form(stripped), Form::ThreePart12);
    assert_eq!(keyring().open(TENANT, CredentialColumn::Anon, stripped), Err(OpenError::Authentication));
    let dressed = format!("v1:default:{THREE_PART_12}");
    assert_eq!(keyring().open(TENANT, CredentialColumn::Anon, &dressed), Err(OpenError::Authentication));
}

/// Catches: a fingerprint whose fields run together, and one that changes between builds. The digest is Node's
/// `createHash('sha256')` over each field after its length from `writeBigUInt64BE`.
#[test]
fn the_fingerprint_is_what_its_description_says() {
    let hex: String = login().fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "fe5633f65c2002e68c790a90715affc68439e01dc8050aeaa108fbe06995a0b8");
}
