// Photographs on their way in: dropped, pasted, picked or taken. Knows nothing of what becomes of them.

import { byId } from "./element.js";

export function onPhotographs(take) {
  const giveAll = (files) => {
    const photographs = [...files].filter((file) => file.type === "" || file.type.startsWith("image/"));
    if (photographs.length) take(photographs);
  };
  for (const input of [byId("files"), byId("shot")]) {
    input.addEventListener("change", () => {
      giveAll(input.files);
      input.value = ""; // The same file can be picked again.
    });
  }
  document.addEventListener("paste", (event) => giveAll(event.clipboardData.files));
  onDrop(giveAll);
  onCamera(take);
}

function onDrop(giveAll) {
  // Anywhere on the page: a photograph that misses the field would replace the page.
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
    giveAll(event.dataTransfer.files);
  });
}

function onCamera(take) {
  const dialog = byId("viewfinder");
  const video = dialog.querySelector("video");
  byId("camera").addEventListener("click", async () => {
    // Browsers give pages a camera only over HTTPS or on the machine itself; a phone's own camera always works.
    if (!navigator.mediaDevices) return byId("shot").click();
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      dialog.showModal();
    } catch {
      byId("shot").click();
    }
  });
  byId("take").addEventListener("click", () => snap(video, take));
  byId("leave").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => video.srcObject.getTracks().forEach((track) => track.stop()));
}

function snap(video, take) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  canvas.toBlob((blob) => blob && take([new File([blob], `camera-${time}.jpg`, { type: "image/jpeg" })]), "image/jpeg", 0.92);
}
