//! What an unknown key may have meant.

/// Keys of coturn's `turnserver.conf`, and where the same thing is written here.
const COTURN: &[(&str, &str)] = &[
    ("acme-redirect", "acme.domains, with acme.challenge = \"http-01\","),
    ("allowed-peer-ip", "peers.allow"),
    ("cert", "tls.certificate"),
    ("denied-peer-ip", "peers.deny"),
    ("external-ip", "relay.external-ip"),
    ("listening-ip", "listen.udp and listen.tcp"),
    ("listening-port", "listen.udp and listen.tcp"),
    ("max-allocate-lifetime", "relay.max-lifetime"),
    ("max-port", "relay.ports"),
    ("min-port", "relay.ports"),
    ("pkey", "tls.key"),
    ("realm", "auth.realm"),
    ("relay-ip", "relay.addresses"),
    ("stale-nonce", "auth.nonce-lifetime"),
    ("static-auth-secret", "auth.secret"),
    ("tls-listening-port", "listen.tls"),
    ("total-quota", "limits.allocations"),
    ("user", "[auth.users]"),
    ("user-quota", "limits.allocations-per-user"),
];

/// The way out for the unknown key `path`, given all keys there are.
pub(super) fn for_unknown(path: &str, known: &[String]) -> String {
    let path = without_index(path);
    let (section, name) = path.rsplit_once('.').unwrap_or(("", &path));
    let dashed = name.replace('_', "-");
    let section_of = |key: &str| key.rsplit_once('.').map_or("", |(s, _)| s).to_owned();
    let name_of = |key: &str| key.rsplit_once('.').map_or(key, |(_, n)| n).to_owned();

    let sections = known.iter().flat_map(|key| key.split_once('.')).map(|(s, _)| s);
    let here = known.iter().filter(|key| section_of(key) == section).map(|key| name_of(key));
    let near = if section.is_empty() {
        nearest(&dashed, here.chain(sections.map(str::to_owned)))
    } else {
        nearest(&dashed, here)
    };
    if let Some(key) = near {
        return format!("did you mean {key}?");
    }
    // The right key in the wrong section, or a file of coturn's.
    if let Some(key) = known.iter().find(|key| name_of(key) == dashed) {
        return match section_of(key).as_str() {
            "" => format!("{dashed} belongs at the top of the file, before the first [section]"),
            section => format!("{dashed} belongs in [{section}]"),
        };
    }
    if let Some((_, ours)) = COTURN.iter().find(|(theirs, _)| *theirs == dashed) {
        return format!("what coturn calls {dashed} is {ours} here");
    }
    if let Some(key) = nearest(&dashed, known.iter().map(|key| name_of(key)))
        && let Some(path) = known.iter().find(|path| name_of(path) == key)
    {
        return format!("did you mean {path}?");
    }
    "remove it; `ternd default-config` prints every key there is".into()
}

/// `auth.secrets[1]` is about the same keys as `auth.secrets[0]`: both are `auth.secrets`.
pub(super) fn without_index(path: &str) -> String {
    path.split('[').next().unwrap_or_default().to_owned() + path.rsplit_once(']').map_or("", |(_, rest)| rest)
}

fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let near = |candidate: &str| (candidate.len().min(name.len()) / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, &candidate), candidate))
        .filter(|(distance, candidate)| *distance <= near(candidate) && candidate != "*")
        .min()
        .map(|(_, candidate)| candidate)
}
