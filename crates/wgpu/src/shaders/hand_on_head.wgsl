// Writes a head's output, which is in `tile`, as the next product's inputs.
fn hand_on(row: u32, head: u32, thread: u32, threads: u32) {
    for (var quad = thread; quad < WIDTH / 4u; quad += threads) {
        if (OUTPUT == CODES) {
            encode(4u * (quad & ~1u), quad & 1u, row, (head * WIDTH + 4u * quad) / BLOCK, UNITS);
        } else {
            let at = row * UNITS * 32u + head * WIDTH + 4u * quad;
            for (var k = 0u; k < 4u; k++) {
                coded[at + k] = bitcast<u32>(tile[4u * quad + k]);
            }
        }
    }
}
