// What a file of `ad export` says of an image, by onnxruntime and without Python: score MODEL.onnx IMAGE.ppm
//
// IMAGE.ppm (P6) has the size that the model takes; docs/deploy.md says how a photograph becomes that. Build it
// with a package that has the headers, as Debian's libonnxruntime-dev; Python's has none:
//   g++ -std=c++17 score_onnxruntime.cpp -o score $(pkg-config --cflags --libs libonnxruntime)
#include <onnxruntime_cxx_api.h>

#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("expected: score MODEL.onnx IMAGE.ppm");
    Ort::Env env;
    Ort::Session session(env, argv[1], Ort::SessionOptions());
    auto shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();  // [batch, side, side, 3]
    shape[0] = 1;  // image; any number may be scored at once

    std::ifstream file(argv[2], std::ios::binary);
    std::string kind;
    int64_t width = 0, height = 0, white = 0;
    file >> kind >> width >> height >> white;
    file.get();  // one space; then the pixels, RGB, row by row
    if (kind != "P6" || width != shape[2] || height != shape[1] || white != 255)
        throw std::runtime_error(std::string(argv[2]) + ": expected a P6 of side " + std::to_string(shape[1]));
    std::vector<uint8_t> pixels(width * height * 3);
    if (!file.read(reinterpret_cast<char*>(pixels.data()), pixels.size()))
        throw std::runtime_error(std::string(argv[2]) + " ends early");

    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto input = Ort::Value::CreateTensor<uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<std::string> names;  // those that are not known are not there
    for (size_t place = 0; place < session.GetOutputCount(); ++place) {
        const std::string name = session.GetOutputNameAllocated(place, allocator).get();
        if (name == "score" || name == "p_value" || name == "decision") names.push_back(name);
    }
    const char* pixels_name = "pixels";
    std::vector<const char*> wanted;
    for (const auto& name : names) wanted.push_back(name.c_str());
    auto values = session.Run(Ort::RunOptions(), &pixels_name, &input, 1, wanted.data(), wanted.size());
    for (size_t place = 0; place < names.size(); ++place)
        if (names[place] == "decision")
            std::cout << (values[place].GetTensorData<bool>()[0] ? "anomalous\n" : "normal\n");
        else
            std::cout << names[place] << " " << values[place].GetTensorData<float>()[0] << "\n";
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
}
