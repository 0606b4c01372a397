// libtorch's loader of AOTInductor packages, for package/mod.rs: `tch` has no binding of it.
//
// Nothing is thrown across the border: where `error` is set, to a text that the caller frees with `embedmill_text_free`,
// nothing else was returned. Tensors are those of torch-sys: pointers to `at::Tensor` on the heap.

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

using torch::inductor::AOTIModelPackageLoader;

namespace {

template <typename Result, typename Body>
Result guarded(char** error, Result nothing, Body body) {
  try {
    return body();
  } catch (const c10::Error& thrown) {
    *error = strdup(thrown.what_without_backtrace());
  } catch (const std::exception& thrown) {
    *error = strdup(thrown.what());
  } catch (...) {
    *error = strdup("an error without a text");
  }
  return nothing;
}

}  // namespace

extern "C" {

// What the file says of itself under `key`, without its code being loaded; an empty text where it says nothing.
char* embedmill_package_says(const char* path, const char* key, char** error) {
  return guarded<char*>(error, nullptr, [&] {
    auto told = AOTIModelPackageLoader::load_metadata_from_package(path, "model");
    auto found = told.find(key);
    return strdup(found == told.end() ? "" : found->second.c_str());
  });
}

AOTIModelPackageLoader* embedmill_package_open(const char* path, int device, size_t runners, char** error) {
  return guarded<AOTIModelPackageLoader*>(error, nullptr, [&] {
    return new AOTIModelPackageLoader(path, "model", false, runners, static_cast<c10::DeviceIndex>(device));
  });
}

void embedmill_package_free(AOTIModelPackageLoader* package) {
  delete package;
}

// How its inputs (`which` 0) or outputs (1) are nested, in JSON.
char* embedmill_package_spec(AOTIModelPackageLoader* package, size_t which, char** error) {
  return guarded<char*>(error, nullptr, [&] { return strdup(package->get_call_spec().at(which).c_str()); });
}

// Writes the first `wanted` outputs, of which the caller becomes the owner; returns how many there are.
size_t embedmill_package_run(
    AOTIModelPackageLoader* package,
    const at::Tensor* const* inputs,
    size_t count,
    at::Tensor** outputs,
    size_t wanted,
    char** error) {
  return guarded<size_t>(error, 0, [&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> given;
    given.reserve(count);
    for (size_t index = 0; index < count; ++index) {
      given.push_back(*inputs[index]);
    }
    auto found = package->run(given);
    // All of them are made before any is handed over.
    std::vector<std::unique_ptr<at::Tensor>> owned;
    for (size_t index = 0; index < found.size() && index < wanted; ++index) {
      owned.push_back(std::make_unique<at::Tensor>(std::move(found[index])));
    }
    for (size_t index = 0; index < owned.size(); ++index) {
      outputs[index] = owned[index].release();
    }
    return found.size();
  });
}

void embedmill_text_free(char* text) {
  free(text);
}

}  // extern "C"
