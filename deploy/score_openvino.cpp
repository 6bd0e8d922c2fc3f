// What a file of `ad export` says of an image, by OpenVINO and without Python: score MODEL.onnx IMAGE.ppm
//
// IMAGE.ppm (P6) has the size that the model takes; docs/deploy.md says how a photograph becomes that. Build it
// with Python's package `openvino` (OV is its folder, the number is the version's), or a release of OpenVINO:
//   g++ -std=c++17 score_openvino.cpp -o score -I $OV/include -L $OV/libs -l:libopenvino.so.2641
#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <string>

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("expected: score MODEL.onnx IMAGE.ppm");
    ov::Core core;
    // Left alone it computes in 16 bits on some CPUs.
    auto model = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    const size_t side = model.input("pixels").get_partial_shape()[1].get_length();  // [batch, side, side, 3]

    std::ifstream file(argv[2], std::ios::binary);
    std::string kind;
    size_t width = 0, height = 0, white = 0;
    file >> kind >> width >> height >> white;
    file.get();  // one space; then the pixels, RGB, row by row
    if (kind != "P6" || width != side || height != side || white != 255)
        throw std::runtime_error(std::string(argv[2]) + ": expected a P6 of side " + std::to_string(side));
    ov::Tensor pixels(ov::element::u8, {1, side, side, 3});  // 1 image; any number may be scored at once
    if (!file.read(reinterpret_cast<char*>(pixels.data()), pixels.get_byte_size()))
        throw std::runtime_error(std::string(argv[2]) + " ends early");

    auto request = model.create_infer_request();
    request.set_tensor("pixels", pixels);
    request.infer();
    for (const auto& output : model.outputs()) {  // what is not known is not there; one may have several names
        const auto& names = output.get_names();
        const auto value = request.get_tensor(output);
        if (names.count("score")) std::cout << "score " << value.data<float>()[0] << "\n";
        if (names.count("p_value")) std::cout << "p_value " << value.data<float>()[0] << "\n";
        if (names.count("decision")) std::cout << (value.data<bool>()[0] ? "anomalous\n" : "normal\n");
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
}
