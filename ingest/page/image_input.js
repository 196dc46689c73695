// Image input: files that are dropped, pasted or chosen, the camera, and the sample.

import { byId } from "./element.js";

// Calls `use` with one or more files. They may turn out not to be images.
export function onImages(use) {
  const useAll = (files) => files.length && use([...files]);
  for (const input of [byId("files"), byId("shot")]) {
    input.addEventListener("change", () => {
      useAll(input.files);
      input.value = ""; // The same file can be picked again.
    });
  }
  document.addEventListener("paste", (event) => useAll(event.clipboardData.files));
  onDrop(useAll);
  onCamera(use);
  byId("sample").addEventListener("click", async () => {
    const response = await fetch("page/cat.jpg");
    use([new File([await response.blob()], "cat.jpg", { type: "image/jpeg" })]);
  });
}

function onDrop(useAll) {
  // Anywhere on the page: a file that misses the field would replace the page.
  const body = document.body;
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    body.classList.remove("over");
    useAll(event.dataTransfer.files);
  });
}

function onCamera(use) {
  const dialog = byId("viewfinder");
  const video = dialog.querySelector("video");
  byId("camera").addEventListener("click", async () => {
    // Browsers give pages a camera only over HTTPS and on localhost. A phone's own camera app always works.
    if (!navigator.mediaDevices) return byId("shot").click();
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      dialog.showModal();
    } catch {
      byId("shot").click();
    }
  });
  byId("take").addEventListener("click", () => snap(video, use));
  byId("leave").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => video.srcObject.getTracks().forEach((track) => track.stop()));
}

function snap(video, use) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  canvas.toBlob((blob) => blob && use([new File([blob], `camera-${time}.jpg`, { type: "image/jpeg" })]), "image/jpeg", 0.92);
}
