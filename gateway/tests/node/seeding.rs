//! `throng admin seed-users`, beside a running server and without one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use throng_protocol::GuildId;

use super::client::Client;
use super::place::Place;
use super::process::Launch;

fn seed(data: &Path, out: &Path, count: &str) -> Launch {
    Launch::new(["admin", "seed-users", "--count", count, "--data"])
        .arg(data)
        .arg("--out")
        .arg(out)
}

fn tokens(out: &Path) -> Vec<String> {
    let mode = fs::metadata(out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "tokens are secrets");
    let text = fs::read_to_string(out).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn accounts_are_good_at_once() {
    let data = tempfile::tempdir().unwrap();
    let out = data.path().join("tokens");
    fs::write(&out, "old").unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o644)).unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let mut ada = place.enter(&server, 0);
    ada.subscribe(place.channel, None);

    let guild = place.guild.to_string();
    let made = seed(data.path(), &out, "3").arg("--guild").arg(&guild);
    let ended = made.run();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let members = tokens(&out);
    assert_eq!(members.len(), 3);
    for token in &members {
        let mut client = Client::connect(server.address);
        let guilds = client.identify(token, None);
        assert_eq!(guilds.len(), 1);
        assert_eq!(guilds[0].id, place.guild);
        client.store(place.channel, "hello");
        let author = ada.message().author.username;
        assert!(author.starts_with("seed_"), "{author}");
    }

    let ended = seed(data.path(), &out, "1500").run();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let outsiders = tokens(&out);
    assert_eq!(outsiders.len(), 1_500);
    let mut client = Client::connect(server.address);
    assert_eq!(client.identify(&outsiders[1_499], None), []);
    drop((ada, client));
    server.stop();

    let ended = seed(data.path(), &out, "1").run();
    assert_eq!(ended.code, Some(0), "without a server: {}", ended.errors);
    let server = Launch::serve(data.path()).start();
    assert!(Client::ready(server.address, &tokens(&out)[0]).is_alive());
}

#[test]
fn everybody_shares_a_channel_and_neighbours_have_circles() {
    let data = tempfile::tempdir().unwrap();
    let out = data.path().join("tokens");
    let server = Launch::serve(data.path()).start();
    let grouped = |count| {
        let made = seed(data.path(), &out, count);
        let made = made.arg("--everyone").arg("Lobby");
        let ended = made.arg("--circles").arg("4").run();
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        let guilds = |token: &String| Client::connect(server.address).identify(token, None);
        tokens(&out).iter().map(guilds).collect::<Vec<_>>()
    };
    let users = grouped("10");
    for (place, guilds) in users.iter().enumerate() {
        let lobby = guilds.iter().find(|guild| guild.name == "Lobby").unwrap();
        let circle = guilds.iter().find(|guild| guild.name != "Lobby").unwrap();
        assert_eq!((guilds.len(), lobby.channels.len()), (2, 1));
        assert_eq!((lobby.member_count, circle.channels.len()), (10, 4));
        assert_eq!(circle.member_count, if place < 8 { 4 } else { 2 });
        let first = users[place / 4 * 4]
            .iter()
            .find(|guild| guild.id == circle.id);
        assert_eq!(first.unwrap().channels, circle.channels);
    }
    // The guild of that name is found again.
    let more = grouped("1");
    let lobby = |guilds: &[throng_protocol::Guild]| {
        let found = guilds.iter().find(|guild| guild.name == "Lobby");
        found.map(|guild| guild.id)
    };
    assert_eq!(lobby(&more[0]), lobby(&users[0]));
}

#[test]
fn what_is_not_there_is_said() {
    let data = tempfile::tempdir().unwrap();
    let out = data.path().join("tokens");
    Launch::serve(data.path()).start().stop();
    let check = |launch: Launch, code: i32, said: &str| {
        let ended = launch.run();
        assert_eq!(ended.code, Some(code), "{}", ended.errors);
        assert!(ended.errors.contains(said), "{}", ended.errors);
    };
    let nobody = GuildId::from_u128(7).to_string();
    let with_guild = |guild: &str| seed(data.path(), &out, "3").arg("--guild").arg(guild);
    check(with_guild(&nobody), 1, &nobody);
    check(with_guild("general"), 2, "general");
    let nowhere = data.path().join("nowhere");
    check(seed(&nowhere, &out, "3"), 1, "nowhere");
    let unwritable = nowhere.join("tokens");
    check(seed(data.path(), &unwritable, "3"), 1, "tokens");
    check(seed(data.path(), &out, "0"), 2, "--count");
    let everyone = seed(data.path(), &out, "3").arg("--everyone").arg("x");
    check(everyone, 2, "2 to 100");
    let circles = seed(data.path(), &out, "3").arg("--circles").arg("0");
    check(circles, 2, "--circles");
}
