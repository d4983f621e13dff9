// Writes element `i` of a head's output, as far as the head has it, as one of the next product's inputs. Every thread of
// the workgroup must come here.
fn hand_on(row: u32, head: u32, thread: u32, i: u32, value: f32) {
    if (OUTPUT == CODES) {
        encode(thread, value, i < WIDTH, row, (head * WIDTH + i) / BLOCK, UNITS);
    } else if (OUTPUT == FLOATS && i < WIDTH) {
        coded[row * UNITS * 32u + head * WIDTH + i] = bitcast<u32>(value);
    }
}
