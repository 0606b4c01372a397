// C functions around libtorch's loader of AOTInductor packages, for package/mod.rs: `tch` has no binding for it.
//
// No exception leaves these functions. A function that fails sets `error` to a text, which the caller frees with
// `embedmill_text_free`, and returns nothing else that the caller would own. Tensors are those of torch-sys: pointers to
// `at::Tensor` on the heap.

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

// Calls `body`. Returns its result, or `nothing` with `error` set where it throws.
template <typename Result, typename Body>
Result guarded(char** error, Result nothing, Body body) {
  try {
    return body();
  } catch (const c10::Error& thrown) {
    *error = strdup(thrown.what_without_backtrace());
  } catch (const std::exception& thrown) {
    *error = strdup(thrown.what());
  } catch (...) {
    *error = strdup("an exception without a message");
  }
  return nothing;
}

}  // namespace

extern "C" {

// The value of `key` in the file's metadata, read without loading its code; an empty text where the key is absent. The caller
// frees the text.
char* embedmill_package_metadata(const char* path, const char* key, char** error) {
  return guarded<char*>(error, nullptr, [&] {
    auto metadata = AOTIModelPackageLoader::load_metadata_from_package(path, "model");
    auto found = metadata.find(key);
    return strdup(found == metadata.end() ? "" : found->second.c_str());
  });
}

// Loads the code in the file, for `runners` callers at once, on CUDA's device of this index or on the CPU for -1. The caller
// frees the loader with `embedmill_package_free`.
AOTIModelPackageLoader* embedmill_package_open(const char* path, int device, size_t runners, char** error) {
  return guarded<AOTIModelPackageLoader*>(error, nullptr, [&] {
    return new AOTIModelPackageLoader(path, "model", false, runners, static_cast<c10::DeviceIndex>(device));
  });
}

void embedmill_package_free(AOTIModelPackageLoader* package) {
  delete package;
}

// The tree specification of the inputs (`which` 0) or outputs (1), in JSON. The caller frees the text.
char* embedmill_package_spec(AOTIModelPackageLoader* package, size_t which, char** error) {
  return guarded<char*>(error, nullptr, [&] { return strdup(package->get_call_spec().at(which).c_str()); });
}

// Runs the code on `count` inputs. Writes pointers to the first `wanted` outputs, which the caller then owns, and returns how
// many outputs the code has.
size_t embedmill_package_run(
    AOTIModelPackageLoader* package,
    const at::Tensor* const* inputs,
    size_t count,
    at::Tensor** outputs,
    size_t wanted,
    char** error) {
  return guarded<size_t>(error, 0, [&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> arguments;
    arguments.reserve(count);
    for (size_t index = 0; index < count; ++index) {
      arguments.push_back(*inputs[index]);
    }
    auto returned = package->run(arguments);
    // All tensors are allocated before the first is handed over, so that none is lost if an allocation throws.
    std::vector<std::unique_ptr<at::Tensor>> owned;
    for (size_t index = 0; index < returned.size() && index < wanted; ++index) {
      owned.push_back(std::make_unique<at::Tensor>(std::move(returned[index])));
    }
    for (size_t index = 0; index < owned.size(); ++index) {
      outputs[index] = owned[index].release();
    }
    return returned.size();
  });
}

void embedmill_text_free(char* text) {
  free(text);
}

}  // extern "C"
