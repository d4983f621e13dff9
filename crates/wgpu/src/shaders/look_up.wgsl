// Looks a token up in the embedding table; a thread takes units of 32.

fn look_up(row: u32, token: u32, thread: u32, threads: u32) {
    for (var i = thread; i < params.units; i += threads) {
        let w = numbers_of(0u, params.matrix, token * params.units + i);
        let at = row * params.output_width + 32u * i;
        for (var j = 0u; j < 8u; j++) {
            for (var k = 0u; k < 4u; k++) {
                if (32u * i + 4u * j + k < params.output_width) {
                    hidden[at + 4u * j + k] = w.v[j][k] * params.factor;
                }
            }
        }
    }
}
