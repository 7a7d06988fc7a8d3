use super::*;

#[test]
fn all_parts_are_used() {
    let exposures = Watch::default().exposures;
    let held: Vec<_> = (0..4_000_u32)
        .filter_map(|client| exposures.permit(Some(IpAddr::from(client.to_be_bytes()))))
        .collect();
    assert_eq!(held.len(), PARTS * EXPOSURES_A_SECOND);
}
