// The code of a small AOTInductor package, for tests/model/packages.rs to compile: what torch generates for a model, in its
// interface (torch/csrc/inductor/aoti_runtime/interface.h), written by hand for token vectors that are easy to know:
// {"logits": ids, "token_embeddings": (id, 2 id, -id / 4) where the mask is 1, else 0}.

#include <ATen/ATen.h>
#include <torch/csrc/inductor/aoti_runtime/interface.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>

using torch::aot_inductor::new_tensor_handle;
using torch::aot_inductor::tensor_handle_to_tensor_pointer;

namespace {

// By the names of its arguments, the mask first.
const char* const INPUTS = R"([1, {"type": "builtins.tuple", "context": "null", "children_spec": [
  {"type": "builtins.tuple", "context": "null", "children_spec": []},
  {"type": "builtins.dict", "context": "[\"attention_mask\", \"input_ids\"]", "children_spec": [
    {"type": null, "context": null, "children_spec": []}, {"type": null, "context": null, "children_spec": []}]}]}])";
const char* const OUTPUTS = R"([1, {"type": "builtins.dict", "context": "[\"logits\", \"token_embeddings\"]", "children_spec": [
  {"type": null, "context": null, "children_spec": []}, {"type": null, "context": null, "children_spec": []}]}])";

thread_local std::string last_error;

// Owns its inputs, gives its outputs away.
void run(AtenTensorHandle* inputs, AtenTensorHandle* outputs) {
  at::Tensor mask = std::move(*tensor_handle_to_tensor_pointer(inputs[0]));
  at::Tensor ids = std::move(*tensor_handle_to_tensor_pointer(inputs[1]));
  delete tensor_handle_to_tensor_pointer(inputs[0]);
  delete tensor_handle_to_tensor_pointer(inputs[1]);
  TORCH_CHECK(ids.size(1) < 300, "a text of ", ids.size(1), " tokens is too long for this package");
  at::Tensor numbers = ids.to(at::kFloat);
  at::Tensor vectors = at::stack({numbers, 2.0 * numbers, -0.25 * numbers}, -1) * mask.unsqueeze(-1);
  outputs[0] = new_tensor_handle(std::move(numbers));
  outputs[1] = new_tensor_handle(std::move(vectors));
}

AOTIRuntimeError guarded(AtenTensorHandle* inputs, AtenTensorHandle* outputs) {
  try {
    run(inputs, outputs);
    return AOTI_RUNTIME_SUCCESS;
  } catch (const c10::Error& error) {
    last_error = error.what_without_backtrace();
    return AOTI_RUNTIME_FAILURE;
  }
}

}  // namespace

extern "C" {

AOTIRuntimeError AOTInductorModelContainerCreateWithDevice(
    AOTInductorModelContainerHandle* container, size_t, const char*, const char*) {
  *container = reinterpret_cast<AOTInductorModelContainerHandle>(&last_error);
  return AOTI_RUNTIME_SUCCESS;
}

AOTIRuntimeError AOTInductorModelContainerDelete(AOTInductorModelContainerHandle) {
  return AOTI_RUNTIME_SUCCESS;
}

AOTIRuntimeError AOTInductorModelContainerGetNumOutputs(AOTInductorModelContainerHandle, size_t* count) {
  *count = 2;
  return AOTI_RUNTIME_SUCCESS;
}

AOTIRuntimeError AOTInductorModelContainerRun(
    AOTInductorModelContainerHandle, AtenTensorHandle* inputs, size_t, AtenTensorHandle* outputs, size_t,
    AOTInductorStreamHandle, AOTIProxyExecutorHandle) {
  return guarded(inputs, outputs);
}

AOTIRuntimeError AOTInductorModelContainerRunSingleThreaded(
    AOTInductorModelContainerHandle, AtenTensorHandle* inputs, size_t, AtenTensorHandle* outputs, size_t,
    AOTInductorStreamHandle, AOTIProxyExecutorHandle) {
  return guarded(inputs, outputs);
}

AOTIRuntimeError AOTInductorModelContainerGetCallSpec(
    AOTInductorModelContainerHandle, const char** inputs, const char** outputs) {
  *inputs = INPUTS;
  *outputs = OUTPUTS;
  return AOTI_RUNTIME_SUCCESS;
}

AOTIRuntimeError AOTInductorGetLastError(const char** message) {
  *message = last_error.c_str();
  return AOTI_RUNTIME_SUCCESS;
}

// It has no weights, so nothing asks for them.

AOTIRuntimeError AOTInductorModelContainerGetNumConstants(AOTInductorModelContainerHandle, size_t* count) {
  *count = 0;
  return AOTI_RUNTIME_SUCCESS;
}

#define NEVER_ASKED(name, ...) \
  AOTIRuntimeError name(AOTInductorModelContainerHandle, ##__VA_ARGS__) { return AOTI_RUNTIME_FAILURE; }

NEVER_ASKED(AOTInductorModelContainerGetConstantName, size_t, const char**)
NEVER_ASKED(AOTInductorModelContainerGetConstantOriginalFQN, size_t, const char**)
NEVER_ASKED(AOTInductorModelContainerGetConstantDtype, size_t, int32_t*)
NEVER_ASKED(AOTInductorModelContainerExtractConstantsMap, AOTInductorConstantMapHandle, bool)
NEVER_ASKED(AOTInductorModelContainerUpdateConstantBuffer, AOTInductorConstantMapHandle, bool, bool)
NEVER_ASKED(AOTInductorModelContainerUpdateConstantBufferFromCpu, AOTInductorConstantMapHandle, bool, bool)
NEVER_ASKED(AOTInductorModelContainerUpdateUserManagedConstantBuffer, AOTInductorConstantMapHandle, bool, bool)
NEVER_ASKED(AOTInductorModelContainerUpdateInactiveConstantBuffer, AOTInductorConstantMapHandle)
NEVER_ASKED(AOTInductorModelContainerFreeInactiveConstantBuffer)
NEVER_ASKED(AOTInductorModelContainerRunConstantFolding, bool, AOTInductorStreamHandle, AOTIProxyExecutorHandle)
NEVER_ASKED(AOTInductorModelContainerSwapConstantBuffer)
NEVER_ASKED(AOTInductorModelContainerGetConstantsBlobSize, uint64_t*)
NEVER_ASKED(AOTInductorModelUpdateConstantsFromBlob, const uint8_t*)

}  // extern "C"
