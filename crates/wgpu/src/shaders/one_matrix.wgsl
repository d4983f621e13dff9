// Parameters of kernels with one matrix.

struct Params {
    matrix: Matrix,
    // Units of 32 inputs in a row.
    units: u32,
    // Elements of an output row.
    output_width: u32,
    // What an embedding's rows are multiplied with. For products, logits become cap · tanh(logit / cap) where the cap is
    // not 0.
    factor: f32,
    // Element of the inputs where scales of rows start, for matrix units.
    row_scales: u32,
}

var<immediate> params: Params;
